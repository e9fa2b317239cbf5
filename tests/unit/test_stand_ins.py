"""What a clone without Git LFS, or a failed download, leaves in place of a file is named for what it is."""

import shutil
from pathlib import Path

import pytest

from fra_dist.config import load_config
from fra_dist.data.making.parquet import list_parquet
from fra_dist.data.shards.index import read_index
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.shards.missing_files import check_shard_files
from fra_dist.errors import ConfigError, DataError
from fra_dist.stand_ins import stand_in_at
from tests.helpers.small_shards import jpeg, write_shards

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 94103171\n"
PAGE = "\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
KINDS = pytest.mark.parametrize(("text", "said"), [(POINTER, "a Git LFS pointer"), (PAGE, "a web page saved")])


@KINDS
@pytest.mark.parametrize("name", ["manifest.json", "s000.tar", "s000.idx.npy"])
def test_of_a_folder_of_shards(tmp_path: Path, name: str, text: str, said: str) -> None:
    whole = write_shards(tmp_path / "whole", [[jpeg(20, 20), jpeg(20, 24)]])
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "whole", copy)
    (copy / name).write_text(text)
    if not name.endswith(".npy"):
        with pytest.raises(DataError, match=rf"{name} is {said}"):
            check_shard_files(copy, load_manifest(copy).shards, indices=True)
    if name != "manifest.json":
        with pytest.raises(DataError, match=rf"{name} is {said}"):
            read_index(copy, whole.shards[0])
    assert read_index(tmp_path / "whole", whole.shards[0]).size


@KINDS
def test_of_a_configuration_and_a_parquet_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file.parquet"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"file\.parquet is {said}"):
        load_config(path)
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=rf"file\.parquet is {said}"):
        list_parquet(path, [path])


def test_what_is_not_there_stands_for_nothing(tmp_path: Path) -> None:
    assert stand_in_at(tmp_path / "none") is None
    assert stand_in_at(tmp_path) is None
