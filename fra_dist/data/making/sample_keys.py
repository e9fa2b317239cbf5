"""Makes WebDataset keys from the names of photos: plain ASCII, no dot, one for each photo.

A key is the relative path without its extension, in which every character except letters, digits, `-`, `_` and `/` is
replaced by `_`. Where that makes two photos equal (`a.jpg` and `a.png`, `ä.jpg` and `ö.jpg`), or a key too long for a
tar header, a hash of the original name is appended. The original name is kept beside the photo, in its json.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from fra_dist.errors import DataError

LONGEST = 80
"""Most characters of a key; with any extension of ours it fits the 100 of a plain tar header."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_/-]")


def make_keys(names: Sequence[str]) -> list[str]:
    """One key for each of the names (relative paths, all different). Keys depend on the set of names only.

    Raises DataError when two names would get the same key.
    """
    keys = [_plain(name) for name in names]
    uses = Counter(keys)
    keys = [
        _hashed(key, name) if uses[key] > 1 or len(key) > LONGEST else key
        for key, name in zip(keys, names, strict=True)
    ]
    if len(set(keys)) < len(keys):
        again = next(key for key, count in Counter(keys).items() if count > 1)
        raise DataError(f"two photos would have the key {again!r}: rename one of them")
    return keys


def _plain(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    stem = base.rpartition(".")[0] or base
    return _UNSAFE.sub("_", folder + slash + stem)


def _hashed(key: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{key[: LONGEST - 17].rstrip('/')}-{digest}"
