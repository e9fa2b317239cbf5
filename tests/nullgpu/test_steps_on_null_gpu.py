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
        **{"eager": 795, "accumulated": 3250, "fp32, crops": 2500, "graphs": 80, "accumulated, graphs": 185},
        **{"adamw, graphs": 90, "revival, graphs": 120, "clusters, graphs": 100},
    },
    "compiled": {"compiled": 985},
    "deepspeed": {
        **{"stage 0": 795, "stage 0, accumulated": 3250, "stage 1": 970, "stage 2": 970},
        **{"stage 0, graphs": 80, "stage 0, accumulated, graphs": 185},
    },
    "two ranks": {
        **{"torch": 1050, "stage 0": 1055, "stage 1": 1110, "stage 2": 1110},
        **{"torch, graphs": 85, "stage 0, graphs": 85},
    },
    "resnet50": {"eager": 1635, "graphs": 85},
}
"""Kernels, copies, fills, library calls and replays of a step, at most. `resnet50`: the published model, 64 images."""
PEAK = {"eager": 6.15, "graphs": 1.21}
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
