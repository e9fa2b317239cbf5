"""N ranks with B/N images each give the loss, the gradients and the state of one rank with B."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

WORKER = Path(__file__).with_name("method_worker.py")
WORLDS = (1, 2, 3, 4)
WAYS = ("double", "double-accumulated", "grouped", "extended", "clusters", "detached", "byol", "float")
LOCAL = ("embedding/spread", "embedding/rank", "regions/overlap", "correspondence_ratio")
"""Diagnostics that are about a rank's own images."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(folder), *map(str, WORLDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return {world: load_file(folder / f"{world}.safetensors") for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("kind", ["term", "grad", "buffer"])
@pytest.mark.parametrize("way", WAYS)
def test_ranks_together_are_one(runs: dict[int, dict[str, Tensor]], world: int, kind: str, way: str) -> None:
    expected = {name: value for name, value in runs[1].items() if name.startswith(f"{way}|{kind}/")}
    assert len(expected) > 8
    worst = {}
    for name, value in expected.items():
        if name.partition("|term/")[2] in LOCAL:
            continue
        ours = runs[world][name].double()
        # gradients that are 0 but for rounding are compared with the size of a typical one
        floor = 1e-3 if way != "float" else 0.1
        worst[name] = float((ours - value).norm() / max(value.double().norm().item(), floor))
    name = max(worst, key=lambda n: worst[n])
    assert worst[name] < (1e-4 if way == "float" else 1e-9), name


def test_accumulation_changes_what_batch_statistics_see(runs: dict[int, dict[str, Tensor]]) -> None:
    one, two = (runs[1][f"{way}|term/total"] for way in ("double", "double-accumulated"))
    assert abs(one - two) > 1e-4


def test_the_extended_step_does_what_it_is_for(runs: dict[int, dict[str, Tensor]]) -> None:
    names = ("term/regions/matched", "term/views/overlap", "buffer/revival.revived")
    matched, overlap, revived = (runs[1][f"extended|{name}"].item() for name in names)
    assert 0.05 < matched < 0.95
    assert 0.05 < overlap < 0.95
    assert 1 <= revived <= 4


def test_the_corresponding_steps_do_what_they_are_for(runs: dict[int, dict[str, Tensor]]) -> None:
    for way in ("clusters", "detached", "byol"):
        assert runs[1][f"{way}|term/correspondence"] > 0.5
        assert 0.05 < runs[1][f"{way}|term/views/overlap"] < 0.95
        assert runs[1][f"{way}|grad/online.pixel_projector.linear1.weight"].any()
    assert 0.05 < runs[1]["clusters|term/regions/matched"] < 0.95
    before_and_after = (runs[1][f"clusters|buffer/{name}.prototypes"] for name in ("online", "target"))
    assert all(abs(p.norm(dim=1) - 1).max() < 1e-12 for p in before_and_after)
