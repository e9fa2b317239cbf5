"""An S3 server on the loopback interface."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.object_store import FaultyServer, forward_to


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3(moto_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyServer]:
    """The server, as the environment names it to s3fs; and a cache folder of the test's own."""
    server = FaultyServer(forward_to("127.0.0.1", moto_port))
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", server.url),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("FRA_DIST_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    yield server
    server.close()
