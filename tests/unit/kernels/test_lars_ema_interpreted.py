"""The Triton kernels of LARS and the EMA in the interpreter against the reference in float64."""

import pytest
from interpreting import interpret
from lars_ema_checks import CASES
from lars_ema_mutants import MUTANTS

SCRIPT = "interpret_lars_ema.py"
OTHERS = ("squares", "follow", "found_inf", "NaN", "operators", "torch.compile", "refusals")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    return interpret(SCRIPT, "checks")


@pytest.mark.parametrize("check", [*CASES, *OTHERS])
def test_agrees_with_the_reference(outcomes: dict[str, str | None], check: str) -> None:
    assert outcomes[check] is None


def test_every_check_is_listed(outcomes: dict[str, str | None]) -> None:
    assert set(outcomes) == {*CASES, *OTHERS}


@pytest.mark.slow
def test_every_broken_kernel_is_noticed() -> None:
    assert interpret(SCRIPT, "mutants") == {name: expected for name, (_, _, expected) in MUTANTS.items()}
