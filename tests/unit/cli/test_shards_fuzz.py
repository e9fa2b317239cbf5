"""Damaged tars, indexes and manifests that lie: every command ends with a status and at most one line of error."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fra_dist.cli.main import main
from fra_dist.data.making.shard_making import ShardOptions, make_shards

VALUES = [
    *[
        None,
        True,
        -1,
        0,
        7,
        10**30,
        2**63,
        1.5,
        float("nan"),
        "",
        "x",
        "../x",
        "a\0b",
        "\ud800",
        ".",
        [],
        {},
        [None] * 3,
    ],
    *[["a", "b", "c"], {"a": 1}, "shard-000000.tar", "shard-000000.idx.npy"],
]
FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "faces"
    make_shards("synthetic:12@48/4", folder, ShardOptions(shard_samples=4, workers=1))
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """Of the shards; taken again for each example by `fresh`."""
    return tmp_path / "copy"


def fresh(whole: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)


def statuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Of every command that looks at shards; asserts that what is said is one line."""
    sheet = str(folder.parent / "sheet.png")
    found = {}
    for words in (
        ["check", str(folder), "--workers", "1", "--decode", "all"],
        ["stats", str(folder)],
        ["stats", str(folder), "--json"],
        ["ls", str(folder)],
        ["ls", str(folder), "1"],
        ["view", str(folder), "--out", sheet, "--tile", "16"],
        ["view", str(folder), "--out", sheet, "--tile", "16", "--masks"],
    ):
        status = found[" ".join(words[:1] + words[2:])] = main(["shards", *words])
        said = capsys.readouterr()
        assert status in (0, 1, 2)
        assert said.err.count("\n") == (status == 2), (words, said.err)
        assert not said.err or said.err.startswith("fra-dist shards: ")
        assert "Traceback" not in said.out
        if status == 1:
            assert words[0] == "check"
            assert "problem" in said.out.splitlines()[-1]
    return found


def checked(found: dict[str, int]) -> int:
    return found["check --workers 1 --decode all"]


def damage(data: st.DataObject, path: Path) -> None:
    """Overwrite, take away or insert bytes."""
    content = bytearray(path.read_bytes())
    before = bytes(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["turn", "cut", "zeros", "insert"]))
        if how == "turn":
            content[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del content[at : at + data.draw(st.sampled_from([1, 100, 512, 3000]))]
        elif how == "zeros":
            content[at : at + 512] = bytes(len(content[at : at + 512]))
        else:
            content[at:at] = b"x" * data.draw(st.sampled_from([1, 512]))
        content = content or bytearray(b"x")
    if bytes(content) == before:
        content[0] ^= 1
    path.write_bytes(content)


def forge(folder: Path) -> None:
    """Give the manifest the sizes and checksums of the files as they are."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["shards"]:
        tar, index = (folder / entry["name"]).read_bytes(), (folder / entry["index"]).read_bytes()
        entry |= {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}
        entry["index_sha256"] = hashlib.sha256(index).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.idx.npy", "manifest.json"])
@FUZZ
@given(data=st.data())
def test_damaged_files(
    whole: Path, copy: Path, capsys: pytest.CaptureFixture[str], name: str, data: st.DataObject
) -> None:
    fresh(whole, copy)
    damage(data, copy / name)
    found = statuses(copy, capsys)
    assert name == "manifest.json" or checked(found) == 1


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.idx.npy"])
@FUZZ
@given(data=st.data())
def test_damage_that_the_checksums_do_not_show(
    whole: Path, copy: Path, capsys: pytest.CaptureFixture[str], name: str, data: st.DataObject
) -> None:
    fresh(whole, copy)
    damage(data, copy / name)
    forge(copy)
    statuses(copy, capsys)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*at, name) for name, _ in inside] + [place for n, v in inside for place in places(v, (*at, n))]


@FUZZ
@given(data=st.data())
def test_manifests_that_lie(whole: Path, copy: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    fresh(whole, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(manifest)))
        inner = manifest
        for step in place[:-1]:
            inner = inner[step]
        if data.draw(st.booleans()):
            inner[place[-1]] = data.draw(st.sampled_from(VALUES))
        else:
            del inner[place[-1]]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    statuses(copy, capsys)


@pytest.mark.parametrize(
    ("entry", "field", "lie"),
    [
        (0, "samples", 3),
        (1, "samples", 5),
        (0, "bytes", 10240),
        (1, "sha256", "0" * 64),
        (2, "index_sha256", "0" * 64),
        (1, "index", "shard-000000.idx.npy"),
        (1, "name", "shard-000000.tar"),
        (2, "name", "absent.tar"),
    ],
)
def test_no_lie_about_a_shard_is_missed(
    whole: Path, copy: Path, capsys: pytest.CaptureFixture[str], entry: int, field: str, lie: object
) -> None:
    fresh(whole, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["samples"] += (lie - manifest["shards"][entry][field]) if field == "samples" else 0  # type: ignore[operator]
    manifest["shards"][entry][field] = lie
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert checked(statuses(copy, capsys)) in (1, 2)
