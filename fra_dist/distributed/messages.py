"""What ranks tell each other besides tensors: values as JSON, so that nothing that arrives can run code.

Beyond JSON there are tuples, dictionaries with any keys, paths, floats that are not finite, and the records of this
package: its dataclasses, named tuples, sections of the configuration, exceptions, and classes that say by `__reduce__`
how they are made. A record travels as its class's name and its public fields; private fields are made anew.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fra_dist.config.section import Section
from fra_dist.errors import FraError, LaunchError, RendezvousError

_PACKAGE = "fra_dist."
_KIND, _VALUE = "kind", "value"


def to_bytes(value: Any) -> bytes:
    """Encode a value. Raises TypeError for one that is neither plain nor a record of this package."""
    return json.dumps(_pack(value)).encode()


def from_bytes(data: bytes) -> Any:
    """Decode what `to_bytes` made. Raises LaunchError for anything else."""
    try:
        return _unpack(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RecursionError) as error:
        raise LaunchError(f"another rank sent what no rank of this version sends ({type(error).__name__})") from None


def broadcast(data: bytes, source: int = 0) -> bytes:
    """Give every rank of the default group the bytes that rank `source` passes; those of others are not looked at."""
    size = _tensor(np.array([len(data)], np.int64))
    with _peers():
        dist.broadcast(size, source)
    own = np.frombuffer(data, np.uint8).copy() if dist.get_rank() == source else np.zeros(int(size), np.uint8)
    content = _tensor(own)
    with _peers():
        dist.broadcast(content, source)
    return content.cpu().numpy().tobytes()


def all_gather(data: bytes) -> list[bytes]:
    """Return the bytes of all ranks of the default group, in the order of ranks."""
    sizes = [_tensor(np.zeros(1, np.int64)) for _ in range(dist.get_world_size())]
    with _peers():
        dist.all_gather(sizes, _tensor(np.array([len(data)], np.int64)))
    own = np.zeros(max(map(int, sizes)), np.uint8)
    own[: len(data)] = np.frombuffer(data, np.uint8)
    padded = [_tensor(np.zeros_like(own)) for _ in sizes]
    with _peers():
        dist.all_gather(padded, _tensor(own))
    return [content.cpu().numpy().tobytes()[: int(size)] for content, size in zip(padded, sizes, strict=True)]


@contextmanager
def _peers() -> Iterator[None]:
    """Name the end of another rank in one line (RendezvousError); its own words say why it ended."""
    try:
        yield
    except RuntimeError as error:
        lost = lost_peer(error)
        if lost is None:
            raise
        raise lost from None


def lost_peer(error: RuntimeError) -> RendezvousError | None:
    """Return the error in one line for a collective that failed because another rank ended; None for other errors."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo" not in text:
        return None
    words = (text.splitlines() or [type(error).__name__])[0].rpartition("] ")[2]
    return RendezvousError(f"the connection to another rank is lost, see what that one says: {words}")


def _tensor(values: Any) -> Tensor:
    """A tensor where the default group communicates."""
    return torch.from_numpy(values).to("cuda" if dist.get_backend() == "nccl" else "cpu")


def _pack(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {_KIND: "float", _VALUE: str(value)}
    if isinstance(value, list):
        return [_pack(one) for one in value]
    if isinstance(value, PurePath):
        return {_KIND: "path", _VALUE: str(value)}
    if isinstance(value, Mapping):
        return {_KIND: "dict", _VALUE: [[_pack(key), _pack(one)] for key, one in value.items()]}
    return _pack_record(value, type(value))


def _pack_record(value: Any, kind: type) -> Any:
    if kind is tuple:
        return {_KIND: "tuple", _VALUE: [_pack(one) for one in value]}
    if not kind.__module__.startswith(_PACKAGE):
        raise TypeError(f"ranks do not send a {kind.__qualname__}")
    name = f"{kind.__module__}:{kind.__qualname__}"
    if isinstance(value, Section):
        return {_KIND: name, _VALUE: value.model_dump_json(by_alias=True)}
    if isinstance(value, FraError):
        return {_KIND: name, _VALUE: _pack(list(value.args))}
    if isinstance(value, tuple):
        return {_KIND: name, _VALUE: _pack(list(value))}
    if is_dataclass(value):
        public = [field.name for field in fields(value) if field.init and not field.name.startswith("_")]
        return {_KIND: name, _VALUE: {field: _pack(getattr(value, field)) for field in public}}
    if "__reduce__" in vars(kind):
        made, arguments = value.__reduce__()
        if made is kind:
            return {_KIND: name, _VALUE: _pack(list(arguments))}
    raise TypeError(f"ranks do not send a {kind.__qualname__}")


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind, content = value[_KIND], value[_VALUE]
    if kind == "float":
        return float(content)
    if kind == "path":
        return Path(content)
    if kind == "dict":
        return {_unpack(key): _unpack(one) for key, one in content}
    if kind == "tuple":
        return tuple(_unpack(content))
    return _unpack_record(kind, content)


def _unpack_record(name: str, content: Any) -> Any:
    module, _, path = name.partition(":")
    if not module.startswith(_PACKAGE):
        raise ValueError(name)
    kind: Any = getattr(importlib.import_module(module), path)
    if not isinstance(kind, type) or kind.__module__ != module:
        raise ValueError(name)
    if issubclass(kind, Section):
        return kind.model_validate_json(content)
    if issubclass(kind, FraError | tuple):
        return kind(*_unpack(content))
    if is_dataclass(kind):
        return kind(**{field: _unpack(one) for field, one in content.items()})
    if "__reduce__" in vars(kind):
        return kind(*_unpack(content))
    raise ValueError(name)
