"""Collectives and host synchronisations of a step on several ranks, with DeepSpeed and with plain PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("step_worker.py")
WAYS = ("torch", "deepspeed", "stage2")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("collectives")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


def total(case: dict[str, Any]) -> int:
    return sum(case["collectives"].values())


@pytest.mark.parametrize("way", ["torch", "deepspeed"])
def test_the_published_model_has_at_most_190_collectives(found: dict[str, dict[str, Any]], way: str) -> None:
    assert 100 < total(found[f"published-{way}"]) <= 190, found[f"published-{way}"]["collectives"]


@pytest.mark.parametrize("way", WAYS)
def test_every_norm_has_one_collective_a_pass(found: dict[str, dict[str, Any]], way: str) -> None:
    """Norms: 7 of the backbone and 3 of the heads, forward and backward online, forward in the target, and 2 of the
    predictors; 3 for prototypes, 3 + 1 + 1 for the relation loss, 1 for the gradient's norm and the loss."""
    own = 3 * (7 + 3) + 2 * 2 + 3 + 5 + 1
    rest = total(found[f"tiny-{way}"]) - own
    assert 1 <= rest <= (1 if way in ("torch", "deepspeed") else 4), found[f"tiny-{way}"]["collectives"]


def test_grouped_views_halve_the_collectives_of_norms(found: dict[str, dict[str, Any]]) -> None:
    assert total(found["tiny-apart"]) - total(found["tiny-torch"]) == 3 * (7 + 3) + 2 * 2 + 3
    assert found["tiny-apart"]["loss"] == pytest.approx(found["tiny-torch"]["loss"], rel=1e-4)


def test_no_step_waits_for_a_value(found: dict[str, dict[str, Any]]) -> None:
    assert {name: case["waits"] for name, case in found.items() if case["waits"]} == {}
