"""Folders of shards behind a URL: S3, Google Cloud Storage, HTTP, Hugging Face, or any other that fsspec opens.

`RemoteFolder` stands where a `Path` stands for a local folder: `folder / name` is a file of it, `str(folder)` is for
messages. Credentials come from the environment, as the fsspec library of the protocol reads them.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from fra_dist.config import DataConfig
from fra_dist.config.logins import put_aside, with_login, without_kept
from fra_dist.data.stores.fetching import Counters, Fetcher, Range, RefusedError
from fra_dist.data.stores.file_locks import can_lock
from fra_dist.data.stores.shard_cache import ShardCache
from fra_dist.errors import DataError

GIB = 1 << 30
_AT_START = 2  # retries of the first file: who mistyped a host should not wait for minutes
_READ_AHEAD = 1 << 16
_CONNECTIONS = 64  # to S3: no fewer than requests at a time, or some wait for others while their time runs

_HINTS: Mapping[str, tuple[str, str]] = {
    "s3": (
        "s3",
        "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the machine's role, another "
        "server from AWS_ENDPOINT_URL; FSSPEC_S3_ANON=true reads public buckets",
    ),
    "gs": ("gs", "credentials come from GOOGLE_APPLICATION_CREDENTIALS or the machine's account"),
    "hf": ("hf", "the token comes from HF_TOKEN; the form is hf://datasets/OWNER/NAME/FOLDER"),
    "http": ("http", "open the address of manifest.json in a browser"),
}
_SAME = {"s3a": "s3", "gcs": "gs", "https": "http"}


@dataclass(frozen=True)
class StoreOptions:
    """How shards behind a URL are read; the defaults are those of the configuration."""

    cache: str = ""
    """Folder for copies of shards; empty means `default_cache()`."""
    cache_bytes: int = int(DataConfig().cache_gb * GIB)
    """Most bytes that the copies may take; with 0 none are kept and samples are read by range requests."""
    retries: int = DataConfig().retries
    """Attempts after the first for a request that failed."""
    timeout: float = DataConfig().timeout_seconds
    """Seconds that the first attempt of a request may take."""

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        """The options that the data section of a configuration asks for."""
        return cls(config.cache, int(config.cache_gb * GIB), config.retries, config.timeout_seconds)


def is_remote(place: object) -> bool:
    """Whether a setting names a URL rather than a local folder."""
    return "://" in str(place)


def default_cache() -> Path:
    """The default cache folder: $FRA_DIST_CACHE, or else `fra_dist/shards` in the user's cache folder."""
    named = os.environ.get("FRA_DIST_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fra_dist" / "shards"


class RemoteFolder:
    """A folder in a store. Instances with the same URL compare equal; open connections do not travel to another
    process.

    Raises DataError, when it is first read, for a protocol that is unknown or whose library is not installed.
    """

    def __init__(self, url: str, options: StoreOptions | None = None) -> None:
        self.url, self.options = put_aside(url).rstrip("/"), options or StoreOptions()
        self.protocol = self.url.partition("://")[0].lower()
        self.counters = Counters()
        self.stopped = threading.Event()

    def __str__(self) -> str:
        """The URL without a password."""
        return self.url

    def __repr__(self) -> str:
        return f"RemoteFolder({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFolder) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[type, tuple[str, StoreOptions]]:
        return RemoteFolder, (self.url, self.options)

    def __truediv__(self, name: str) -> "RemoteFile":
        return RemoteFile(self, name)

    def separate(self) -> "RemoteFolder":
        """The same folder with counters and a stop signal of its own."""
        return RemoteFolder(self.url, self.options)

    def stop(self) -> None:
        """End every read of this folder that is under way, in any thread, with Cancelled."""
        self.stopped.set()

    @cached_property
    def fetcher(self) -> Fetcher:
        """The fetcher that reads this folder; it opens the filesystem when it is first used. Raises DataError."""
        return Fetcher(_open(self), self.options.retries, self.options.timeout, self.counters, self.stopped)

    @cached_property
    def cache(self) -> ShardCache | None:
        """The cache for copies of this folder's shards, or None where the options or the disk keep none.

        Raises DataError.
        """
        if not self.options.cache_bytes:
            return None
        folder = Path(self.options.cache).expanduser() if self.options.cache else default_cache()
        return ShardCache(folder, self.options.cache_bytes, self.counters) if can_lock(folder) else None

    def path(self, name: str) -> str:
        """The path of a file of the folder as the fsspec filesystem names it, with the login."""
        return f"{with_login(self.url)}/{quote(name) if self.protocol in ('http', 'https') else name}"

    def first_file(self, name: str) -> bytes:
        """Read the file that everything begins with, the manifest.

        Raises DataError, whose text says how to reach a store of this kind when the store refuses.
        """
        try:
            return self.fetcher.read(Range(self.path(name)), min(_AT_START, self.options.retries))
        except RefusedError as error:
            hint = _HINTS.get(_SAME.get(self.protocol, self.protocol), ("", "look at the URL and the credentials"))[1]
            raise DataError(f"{error}; {hint}") from None

    def verified(self, name: str, sha256: str) -> bytes:
        """A small file with a known checksum, kept in the cache if there is one. Raises DataError when the checksum
        differs."""
        return self._cached(name, sha256) if self.cache is not None else self._checked(name, sha256)

    def sizes(self) -> dict[str, int] | None:
        """Bytes of every file in the folder and below, by name; None where the store does not list its files."""
        if self.protocol in ("http", "https"):
            return None
        system = self.fetcher.system
        root = system._strip_protocol(self.url).rstrip("/") + "/"
        try:
            found = system.find(root, detail=True)
        except Exception:  # reading may be allowed where listing is not
            return None
        return {
            name.removeprefix(root): int(info["size"]) for name, info in found.items() if info.get("size") is not None
        }

    def _checked(self, name: str, sha256: str) -> bytes:
        for _ in range(2):
            data = self.fetcher.read(Range(self.path(name)))
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
            self.counters.add("retries")
        raise DataError(
            f"{self / name} is not the file that manifest.json names (its checksum differs): upload it again"
        )

    def _cached(self, name: str, sha256: str) -> bytes:
        assert self.cache is not None
        data = self.cache.get_small(sha256)
        if data is None:
            data = self._checked(name, sha256)
            self.cache.put_small(sha256, data)
        return data


@dataclass(frozen=True)
class RemoteFile:
    """One file of a remote folder, read through the folder's store: bytes at an offset, or the whole file."""

    folder: RemoteFolder
    """The folder that holds the file."""
    name: str
    """Name relative to the folder."""
    size: int = 0
    """Bytes of the file as the manifest names them; 0 when that is not known."""

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes of the file from byte `offset`. Raises DataError."""
        return self.folder.fetcher.read(Range(self.folder.path(self.name), offset, length))


class Window:
    """Serves small neighbouring reads of a remote file from fewer and larger requests."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self._start, self._data = 0, b""

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes from byte `offset`; fewer at the end of the file, as `pread` gives. Raises DataError."""
        length = max(0, min(length, self.file.size - offset))
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            ahead = min(max(length, _READ_AHEAD), self.file.size - offset)
            self._start, self._data = offset, self.file.read(ahead, offset) if length else b""
        return self._data[offset - self._start :][:length]


def _open(folder: RemoteFolder) -> Any:
    """The fsspec filesystem of a URL, without retries of its own."""
    import fsspec

    protocol, options = folder.protocol, dict[str, Any]()
    kind = _SAME.get(protocol, protocol)
    if kind == "s3":
        own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        patience = {"connect_timeout": folder.options.timeout, "read_timeout": folder.options.timeout}
        options["config_kwargs"] = {
            "max_pool_connections": _CONNECTIONS,
            **patience,
            "retries": {"max_attempts": 0},
            **own,
        }
    if kind == "http":  # as curl does: proxies and .netrc of the environment count
        options["client_kwargs"] = {"trust_env": True}
    try:
        system = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
    except ImportError as error:
        extra = _HINTS.get(kind, ("", ""))[0]
        advice = f"pip install fra-dist[{extra}]" if extra else " ".join(str(error).split())
        raise DataError(f"{folder} needs a package that is not installed: {advice}") from None
    except Exception as error:
        text = without_kept(" ".join(str(error).split())[:300])
        raise DataError(f"cannot open {folder}: {text}: data.shards is a folder or a URL that fsspec knows") from None
    if hasattr(system, "retries"):
        system.retries = 1  # only our own retries, which are counted and can be stopped
    return system
