"""The Triton kernels in Triton's interpreter against the reference in float64; see `interpret_region_attention`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from region_attention_checks import CASES
from region_attention_mutants import MUTANTS

HERE = Path(__file__).parent
OTHERS = ("split halves", "few splits", "NaN", "empty batch", "operators", "torch.compile", "refusals")


def run(what: str) -> dict[str, str | None]:
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": str(HERE.parents[1]),
        "PYTHONWARNINGS": "ignore",
        "FRA_DIST_KERNELS": "auto",
    }
    done = subprocess.run(
        [sys.executable, HERE / "interpret_region_attention.py", what], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    return run("checks")


@pytest.mark.parametrize("check", [*CASES, *OTHERS])
def test_agrees_with_the_reference(outcomes: dict[str, str | None], check: str) -> None:
    assert outcomes[check] is None


def test_every_check_is_listed(outcomes: dict[str, str | None]) -> None:
    assert set(outcomes) == {*CASES, *OTHERS}


@pytest.mark.slow
def test_every_broken_kernel_is_noticed() -> None:
    assert run("mutants") == {name: expected for name, (_, _, expected) in MUTANTS.items()}
