"""The Triton kernel of dropout masks in Triton's interpreter: equal to the reference, to the bit."""

import pytest
from dropout_mask_checks import CASES
from dropout_mask_mutants import MUTANTS
from interpreting import interpret

SCRIPT = "interpret_dropout_mask.py"
OTHERS = ("operators", "torch.compile")


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
