"""A password in a URL does not stay in the configuration, and is there when the URL is opened."""

import json

import pytest

from fra_dist.config import dump_config, load_config
from fra_dist.config.logins import VARIABLE, put_aside, with_login
from fra_dist.errors import ConfigError
from fra_dist.foreign_text import without_logins
from fra_dist.train.sinks.sink import Guarded


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


@pytest.mark.parametrize(
    ("given", "host", "login"),
    [
        ("https://ghp_token@host/faces", "https://host/faces", "ghp_token"),
        ("http://me:p@ss@host:80/faces", "http://host:80/faces", "me:p@ss"),
        ("http://me:a,b@host/faces", "http://host/faces", "me:a,b"),
        ("ftp://me:pw@host*3", "ftp://host*3", "me:pw"),
        ("http://:pw@host/a,faces", "http://host/a,faces", ":pw"),
    ],
)
def test_logins_of_any_form(given, host, login):
    config = load_config(None, [f"data.shards={given}"])
    assert config.data.shards == host
    scheme, _, rest = host.partition("*")[0].partition("://")
    assert with_login(f"{scheme}://{rest.partition(',')[0]}") == f"{scheme}://{login}@{rest.partition(',')[0]}"
    assert login not in without_logins(f"cannot read {given}: refused")


def test_a_logger_gets_the_login_of_its_server_and_tells_nobody(capsys):
    config = load_config(None, ["log.mlflow=http://me:s3cret@127.0.0.1:9"])
    assert "s3cret" not in dump_config(config)
    assert with_login(config.log.mlflow) == "http://me:s3cret@127.0.0.1:9"

    class Refused:
        def write(self, step, row):
            raise OSError(f"no answer from {with_login(config.log.mlflow)}")

        def close(self):
            pass

    Guarded("MLflow", Refused()).write(1, {})
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err


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
