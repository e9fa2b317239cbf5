"""The Triton kernels in Triton's interpreter against the reference in float64; see `interpret_correspondence`."""

import pytest
from correspondence_checks import CASES
from correspondence_mutants import MUTANTS
from interpreting import interpret

SCRIPT = "interpret_correspondence.py"
OTHERS = ("NaN", "split halves", "empty batch", "operators", "torch.compile", "refusals")


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
