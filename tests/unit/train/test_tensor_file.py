import hashlib
import threading
import time
from pathlib import Path

import hypothesis.extra.numpy as hnp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from fra_dist.train.checkpoints import tensor_file
from fra_dist.train.checkpoints.tensor_file import tensor_bytes, write_tensors

SHA256 = hashlib.sha256
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
TYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


def some(dtype, *shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


def test_the_safetensors_package_reads_every_type_and_shape(tmp_path):
    tensors = {
        f"{dtype}/{i}": some(dtype, *shape) for dtype in TYPES for i, shape in enumerate([(), (3,), (2, 0), (5, 1, 3)])
    }
    written = write_tensors(tmp_path / "a", tensors)
    read = load_file(tmp_path / "a")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value), name
    data = (tmp_path / "a").read_bytes()
    assert written.bytes == len(data)
    assert written.sha256 == hashlib.sha256(data).hexdigest()


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), max_size=5)
)
def test_any_names(tmp_path_factory, shapes):
    shapes.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("any") / "a"
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    write_tensors(path, tensors)
    read = load_file(path)
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    assert read.keys() == tensors.keys()


def test_other_memory_layouts_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "_PIECE", 7)
    tensors = {
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "transposed": torch.randn(4, 6).t(),
        "slice": torch.randn(9)[1::2],
    }
    write_tensors(tmp_path / "a", tensors)
    for name, value in load_file(tmp_path / "a").items():
        assert torch.equal(value, tensors[name]), name


def test_values_begin_where_their_type_allows(tmp_path):
    write_tensors(tmp_path / "a", {"a": some(torch.int8, 3), "b": some(torch.float64, 2), "c": some(torch.int16, 1)})
    data = (tmp_path / "a").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0
    with safe_open(tmp_path / "a", "pt") as file:
        assert set(file.keys()) == {"a", "b", "c"}
    assert tensor_bytes({"a": some(torch.int8, 3), "b": some(torch.float64, 2)}) == 19


def test_nothing(tmp_path):
    write_tensors(tmp_path / "a", {})
    assert load_file(tmp_path / "a") == {}


def test_a_disk_that_takes_no_more(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        write_tensors(Path("/dev/full"), {"a": torch.zeros(10)})


class Slow:
    """A checksum that does `before` for every piece."""

    def __init__(self, before):
        self.real, self.before = SHA256(), before

    def update(self, piece):
        self.before()
        self.real.update(piece)

    def hexdigest(self):
        return self.real.hexdigest()


def test_the_disk_does_not_wait_for_the_checksum(tmp_path, monkeypatch):
    sizes, whole = [], threading.Event()
    begin = tensor_file._begin_to_flush

    def noted(file):
        sizes.append((tmp_path / "a").stat().st_size)
        begin(file)
        if sizes[-1] == 8:
            whole.set()

    monkeypatch.setattr(tensor_file, "_FLUSHED", 4)
    monkeypatch.setattr(tensor_file, "_begin_to_flush", noted)
    monkeypatch.setattr(tensor_file.hashlib, "sha256", lambda: Slow(lambda: whole.wait(60)))
    written = tensor_file.write_pieces(tmp_path / "a", [b"one", b"t", memoryview(b"hree")])
    assert whole.is_set()
    assert sizes == [4, 8, 8]
    assert written == tensor_file.Written(8, SHA256(b"onethree").hexdigest())


def test_after_an_error_of_the_disk_nobody_waits_for_the_checksum(monkeypatch):
    hashed = []
    monkeypatch.setattr(tensor_file.hashlib, "sha256", lambda: Slow(lambda: (hashed.append(1), time.sleep(0.01))))
    with pytest.raises(OSError, match="No space left"):
        tensor_file.write_pieces(Path("/dev/full"), [b"piece"] * 1000)
    assert len(hashed) < 1000


def test_a_system_that_cannot_begin_early(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file.ctypes, "CDLL", lambda name: object())
    assert tensor_file.write_pieces(tmp_path / "a", [b"one"]).sha256 == hashlib.sha256(b"one").hexdigest()
    assert (tmp_path / "a").read_bytes() == b"one"
