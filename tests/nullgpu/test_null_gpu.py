"""The null GPU shows the mistakes that it is there for."""

from typing import Any

import pytest

from tests.nullgpu import null_gpu
from tests.nullgpu.null_gpu import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHOWN = {
    "item": "stream_syncs",
    "synchronize": "device_syncs",
    "event": "event_syncs",
    "pageable": "pageable_copies",
    "leak": "allocations",
}
"""Mistake -> what is counted then."""
ENDED = {
    "buffer": "cannot be accessed from Triton",
    "parameter": "Expected all tensors to be on the same device",
    "grid": "invalid argument",
    "block": "out of resource: threads",
    "compiled again": "FailOnRecompileLimitHit",
    "item in a capture": "not permitted when stream is capturing",
    "synchronize in a capture": "not permitted when stream is capturing",
}
"""Mistake -> the error that it ends with."""


@pytest.fixture(scope="module")
def mistakes(scene: Scene) -> dict[str, Any]:
    return scene("mistakes.py")


def test_a_step_without_a_mistake_has_no_problem(mistakes: dict[str, Any]) -> None:
    assert null_gpu.problems(mistakes["none"], most_launches=10_000) == []


def test_more_launches_than_the_limit_are_a_problem(mistakes: dict[str, Any]) -> None:
    count = null_gpu.launches(mistakes["none"])
    assert null_gpu.problems(mistakes["none"], count) == []
    assert null_gpu.problems(mistakes["none"], count - 1) == [f"{count} launches, of {count - 1}"]


@pytest.mark.parametrize("name", SHOWN)
def test_what_waits_or_allocates_is_counted(mistakes: dict[str, Any], name: str) -> None:
    problems = null_gpu.problems(mistakes[name], most_launches=10_000)
    assert f"1 {SHOWN[name]}" in problems


@pytest.mark.parametrize("name", ENDED)
def test_what_a_gpu_refuses_is_refused(mistakes: dict[str, Any], name: str) -> None:
    assert ENDED[name] in mistakes[name]["error"]


def test_an_illegal_launch_says_what_is_wrong(mistakes: dict[str, Any]) -> None:
    assert "a Triton launch is refused: grid 1 x 70000 x 1" in mistakes["stderr"]
