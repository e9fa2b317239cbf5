import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.errors import CheckpointError
from fra_dist.export.weight_files import read_tensors, write_weight_file

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([".safetensors", ".pth", ".npz"]), st.lists(st.integers(0, 3), max_size=3), DTYPES)
def test_round_trip_is_exact(tmp_path_factory, suffix, shape, dtype):
    path = tmp_path_factory.mktemp("files") / f"weights{suffix}"
    tensors = {"a.b": torch.randn(shape).to(dtype), "c": torch.randn(2, 3).t()}
    write_weight_file(path, tensors)
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_prefix_chooses_and_is_taken_off(tmp_path):
    np.savez(tmp_path / "a.npz", **{"init/x": np.ones(2), "final/x": np.zeros(2)})
    assert torch.equal(read_tensors(tmp_path / "a.npz", "final/")["x"], torch.zeros(2, dtype=torch.float64))
    with pytest.raises(CheckpointError, match="no tensors whose names start with 'other/'"):
        read_tensors(tmp_path / "a.npz", "other/")


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_nested_dictionary_is_found(tmp_path, key):
    torch.save({key: {"x": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pth")
    assert torch.equal(read_tensors(tmp_path / "a.pth")["x"], torch.ones(2))


class Unsafe:
    def __reduce__(self):
        return (print, ("this ran",))


def unsafe_pickle(path):
    path.write_bytes(pickle.dumps(Unsafe(), protocol=2))


def object_array(path):
    np.savez(path, x=np.array([Unsafe()], dtype=object))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.pth", unsafe_pickle),
        ("a.npz", object_array),
        ("a.pth", lambda path: torch.save(Unsafe(), path)),
        ("a.pth", lambda path: torch.save({"x": 1}, path)),
        ("a.pth", lambda path: torch.save([torch.ones(1)], path)),
        ("a.pth", lambda path: path.write_bytes(b"")),
        ("a.pt", lambda path: path.write_text("not weights")),
        ("a.npz", lambda path: path.write_bytes(b"PK\x03\x04cut")),
        ("a.npz", lambda path: path.write_bytes(b"")),
        ("a.safetensors", lambda path: path.write_bytes(b"\x00" * 7)),
        ("a.safetensors", lambda path: path.write_bytes(b"{" * 64)),
        ("a.safetensors", lambda path: path.mkdir()),
        ("a.bin", lambda path: path.write_bytes(b"")),
        ("a.pth", lambda path: None),
    ],
)
def test_what_is_not_weights_is_refused_in_one_line_and_never_run(tmp_path, capsys, name, write):
    path = tmp_path / name
    write(path)
    with pytest.raises(CheckpointError) as refused:
        read_tensors(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.bin", "file/a.pth", "file/a.npz"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError):
        write_weight_file(tmp_path / name, {"x": torch.ones(1)})


def test_bf16_does_not_fit_numpy(tmp_path):
    with pytest.raises(CheckpointError, match="cannot write"):
        write_weight_file(tmp_path / "a.npz", {"x": torch.ones(1).bfloat16()})
    assert not list(tmp_path.iterdir())
