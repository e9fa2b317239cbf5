"""Shards behind a password: read with it, refused without, and no message has it."""

import base64
import functools
import http.server
import threading

import pytest

from fra_dist.config.logins import VARIABLE, put_aside, without_kept
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.errors import DataError

LOGIN = "me:s3cret"


class Guarded(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(LOGIN.encode()).decode()}":
            self.send_error(401)
            return
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def host(shards, monkeypatch):
    monkeypatch.setenv(VARIABLE, "{}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Guarded, directory=str(shards)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_shards_behind_a_password(host, shards):
    manifest = load_manifest(f"http://{LOGIN}@{host}", check_files=False)
    assert manifest.total == load_manifest(shards).total
    assert isinstance(manifest.folder, RemoteFolder)
    assert "s3cret" not in f"{manifest.folder} {manifest.folder!r} {manifest.folder.url} {manifest.path(0)}"


def test_a_wrong_password_is_refused_without_being_told(host):
    with pytest.raises(DataError, match="401") as error:
        load_manifest(f"http://me:wr0ng@{host}", check_files=False)
    assert "wr0ng" not in str(error.value)


def test_a_password_is_told_in_no_words_of_a_library(monkeypatch):
    monkeypatch.setenv(VARIABLE, "{}")
    with pytest.raises(DataError, match=r"cannot read s3://bucket/x/manifest\.json") as error:  # boto names the bucket
        load_manifest("s3://me:s3cr%20et@bucket/x", check_files=False)
    assert "s3cr" not in str(error.value)
    put_aside("http://me:s3cr%20et@host/x")
    assert without_kept("user me with s3cr et at http://me:s3cr et@host") == "user me with *** at http://host"
