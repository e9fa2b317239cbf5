"""What a training step asks of a GPU: nothing waits, nothing is allocated, launches and memory have a limit.

Counted on the null GPU, see `null_gpu.py`. A limit that a change exceeds is either the change's mistake or to be
raised here, where a reviewer sees it; a step that needs less may lower it.
"""

import pytest

from tests.nullgpu import null_gpu
from tests.nullgpu.null_gpu import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LAUNCHES = {
    "torch": {
        **{"eager": 850, "accumulated": 3480, "fp32, crops": 2525, "graphs": 80, "accumulated, graphs": 185},
        **{"adamw, graphs": 90, "revival, graphs": 120, "clusters, graphs": 100},
    },
    "compiled": {"compiled": 1025},
    "deepspeed": {
        **{"stage 0": 850, "stage 0, accumulated": 3480, "stage 1": 1030, "stage 2": 1030},
        **{"stage 0, graphs": 80, "stage 0, accumulated, graphs": 185},
    },
    "two ranks": {
        **{"torch": 1105, "stage 0": 1115, "stage 1": 1165, "stage 2": 1170},
        **{"torch, graphs": 85, "stage 0, graphs": 85},
    },
    "resnet50": {"eager": 1740, "graphs": 85},
}
"""Kernels, copies, fills, library calls and replays of a step, at most. `resnet50`: the published model, 64 images."""
PEAK = {"eager": 6.53, "graphs": 1.28}
"""GiB of PyTorch's allocator in a step of `resnet50`; for graphs without their own pool."""


@pytest.mark.parametrize("group", LAUNCHES)
def test_a_step_asks_for_no_more_than_it_should(group: str, scene: Scene) -> None:
    found = scene("step_scenes.py", group)
    limits = LAUNCHES[group]
    assert limits.keys() == found.keys() - {"stderr"}
    assert {name: problems for name in limits if (problems := null_gpu.problems(found[name], limits[name]))} == {}
    if group == "deepspeed":  # on one rank, every gradient stays where it is
        assert found["stage 0"]["copies"] <= 3
    if group == "resnet50":
        peaks = {name: found[name]["peak"] / 2**30 for name in PEAK}
        assert {name: peak for name, peak in peaks.items() if peak > PEAK[name]} == {}
