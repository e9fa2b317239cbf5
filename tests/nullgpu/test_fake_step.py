"""A training step on fake tensors: nothing is read back, devices and dtypes match, nothing large is float64."""

from typing import Any

import pytest

from tests.nullgpu.null_gpu import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHOWN = {
    "item": "DataDependentOutputException",
    "copy to the host": "from the device",
    "float64": "float64 (300, 300)",
    "buffer": "device",
    "parameter": "device",
}
"""Mistake -> what is said of it."""


@pytest.fixture(scope="module")
def found(scene: Scene) -> dict[str, Any]:
    return scene("fake_scene.py")


@pytest.mark.parametrize("name", ["none", "none, crops", "none, accumulated"])
def test_a_step_has_no_problem(found: dict[str, Any], name: str) -> None:
    assert found[name] == []


@pytest.mark.parametrize("name", SHOWN)
def test_a_mistake_is_noticed(found: dict[str, Any], name: str) -> None:
    assert any(SHOWN[name] in problem for problem in found[name])
