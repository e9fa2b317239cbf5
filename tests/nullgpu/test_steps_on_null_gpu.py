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
        **{"eager": 450, "accumulated": 1900, "fp32, crops": 2160, "graphs": 42, "accumulated, graphs": 67},
        **{"adamw, graphs": 49, "revival, graphs": 81, "clusters, graphs": 64},
    },
    "compiled": {"compiled": 675},
    "deepspeed": {
        **{"stage 0": 455, "stage 0, accumulated": 1910, "stage 1": 630, "stage 2": 630},
        **{"stage 0, graphs": 42, "stage 0, accumulated, graphs": 67},
    },
    "two ranks": {
        **{"torch": 740, "stage 0": 750, "stage 1": 800, "stage 2": 800},
        **{"torch, graphs": 44, "stage 0, graphs": 44},
    },
    "resnet50": {"eager": 1045, "graphs": 46},
}
"""Kernels, copies, fills, library calls and replays of a step, at most. `resnet50`: the published model, 64 images."""
PEAK = {"eager": 5.4, "graphs": 1.21}
"""GiB of PyTorch's allocator in a step of `resnet50`; for graphs without their own pool."""


@pytest.mark.parametrize("group", LAUNCHES)
def test_a_step_asks_for_no_more_than_it_should(group: str, scene: Scene) -> None:
    found = scene("step_scenes.py", group)
    limits = LAUNCHES[group]
    assert limits.keys() == found.keys() - {"stderr"}
    assert {name: problems for name in limits if (problems := null_gpu.problems(found[name], limits[name]))} == {}
    if group == "deepspeed":  # on one rank, every gradient stays where it is; one copy brings dropout's keys
        assert found["stage 0"]["copies"] <= 4
    if group == "resnet50":
        peaks = {name: found[name]["peak"] / 2**30 for name in PEAK}
        assert {name: peak for name, peak in peaks.items() if peak > PEAK[name]} == {}
