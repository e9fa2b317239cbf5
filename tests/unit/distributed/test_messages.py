"""What ranks tell each other arrives as it was, and nothing else arrives."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from fra_dist.config import load_config
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.shards.shard_patterns import ShardSet
from fra_dist.data.stores.remote_folder import RemoteFolder, StoreOptions
from fra_dist.distributed import messages
from fra_dist.distributed.messages import from_bytes, to_bytes
from fra_dist.errors import DataError, DiskError, FraError, LaunchError, RendezvousError
from fra_dist.train.checkpoints.reading import Checkpoint


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 0.1, -1e-300, math.inf, "a\n\udcff王", [1, [2]], (1, "two", None), {3: "x", "y": (1,)}),
        *(Path("/a/b"), ShardSet("a", None, 2), {"kind": "float", "value": "1"}),
        load_config(None, ["train.steps=7", "data.shards=x"]),
        Checkpoint(Path("r/step-1"), 1, load_config(None), {"torch": "2"}, {"loss": 0.5}, {"guard": [1]}, [2, 3]),
    ],
)
def test_values_arrive_as_they_were(value):
    found = from_bytes(to_bytes(value))
    assert found == value
    assert type(found) is type(value)


def test_numbers_of_numpy_and_nan_arrive_as_plain_numbers():
    assert from_bytes(to_bytes([np.int64(3), np.float32(0.5)])) == [3, 0.5]
    assert math.isnan(from_bytes(to_bytes(math.nan)))


def test_a_manifest_arrives_without_what_it_has_read(shards):
    manifest = load_manifest(shards)
    manifest.row(3)
    found = from_bytes(to_bytes(manifest))
    assert found == manifest
    assert found.where(17) == manifest.where(17)
    remote = RemoteFolder("http://host/x", StoreOptions(retries=1))
    assert from_bytes(to_bytes(remote)).options.retries == 1


@pytest.mark.parametrize("kind", [DataError, DiskError])
def test_errors_arrive_with_their_status(kind):
    found = from_bytes(to_bytes(kind("no disk")))
    assert isinstance(found, FraError)
    assert (str(found), found.exit_status) == ("no disk", kind.exit_status)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(3),
        b"{",
        *(
            json.dumps({"kind": kind, "value": ["x"]}).encode()
            for kind in (
                "os:system",
                "fra_dist.files:Path",
                "fra_dist.files:exists",
                "fra_dist.nothing:x",
                "set",
                3,
            )
        ),
        b"[" * 100_000,
    ],
)
def test_nothing_else_arrives(data):
    with pytest.raises(LaunchError, match="another rank sent"):
        from_bytes(data)


def test_what_is_not_ours_is_not_sent():
    for value in ({1, 2}, b"x", object(), open):
        with pytest.raises(TypeError):
            to_bytes(value)


def test_the_end_of_another_rank_is_one_line_and_other_errors_pass():
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.1]:7\nframe #0"
    said = r"lost, .*: Connection closed by peer \[10\.0\.0\.1\]:7$"
    with pytest.raises(RendezvousError, match=said) as raised, messages._peers():
        raise RuntimeError(gloo)
    assert raised.value.exit_status == 1
    with pytest.raises(RuntimeError, match="out of memory"), messages._peers():
        raise RuntimeError("CUDA out of memory")
