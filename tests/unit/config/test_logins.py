"""A password in a URL does not stay in the configuration, and is there when the URL is opened."""

import json

import pytest

from fra_dist.config import dump_config, load_config
from fra_dist.config.logins import VARIABLE, put_aside, with_login
from fra_dist.errors import ConfigError


@pytest.fixture(autouse=True)
def no_logins(monkeypatch):
    monkeypatch.setenv(VARIABLE, "{}")


def test_the_configuration_has_no_login_and_the_url_that_is_opened_has_it():
    config = load_config(None, ["data.shards=https://me:s3%40cret@host:8443/faces,http://you:two@other/x*3"])
    assert config.data.shards == "https://host:8443/faces,http://other/x*3"
    assert "s3%40cret" not in dump_config(config)
    assert with_login("https://host:8443/faces/manifest.json") == "https://me:s3%40cret@host:8443/faces/manifest.json"
    assert with_login("http://other/x") == "http://you:two@other/x"
    assert with_login("http://host:8443/x") == "http://host:8443/x"  # not over another protocol


def test_a_process_that_is_started_has_it_too(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"ftp://a": "u:p"}))
    put_aside("http://me:pw@b/faces")
    assert with_login("ftp://a/x") == "ftp://u:p@a/x"
    assert with_login("http://b") == "http://me:pw@b"


@pytest.mark.parametrize("url", ["hf://datasets/me/faces@v1/train", "s3://bucket/a:b@c", "gs://me@bucket/x", "a:b@c"])
def test_what_is_no_login_stays(url):
    assert load_config(None, [f"data.shards={url}"]).data.shards == url


def test_a_message_about_a_url_has_no_login():
    with pytest.raises(ConfigError, match=r"data.shards=http://host/\$NOWHERE: \$NOWHERE is not set") as error:
        load_config(None, ["data.shards=http://me:s3cret@host/$NOWHERE"])
    assert "s3cret" not in str(error.value)
