"""Every Triton kernel is launched as a GPU takes it, and without waiting for it."""

import pytest

from tests.nullgpu import null_gpu
from tests.nullgpu.null_gpu import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_kernel_is_launched_legally(scene: Scene) -> None:
    found = scene("kernel_scenes.py")
    assert {name: found[name]["wrong"] for name in found if name != "stderr" and found[name]["wrong"]} == {}
    waits = ("stream_syncs", "device_syncs", "event_syncs", "blocking_copies", *null_gpu.REFUSALS)
    asked = {f"{name}: {what}": found[name][what] for name in found if name != "stderr" for what in waits}
    assert {what: count for what, count in asked.items() if count} == {}


def test_a_launch_takes_what_triton_would(scene: Scene) -> None:
    found = scene("launcher_scene.py")
    kinds = {name: kind for name, kind in found.items() if isinstance(kind, dict)}
    assert len(kinds) == 10
    assert [name for name, kind in kinds.items() if not kind["same"] or kind["launches"] != 2] == []
    assert kinds["twice"]["constants"] == [64, True]
    assert found["empty"] == 0
    assert found["variants"] == 9  # another factor is no other kernel


def test_a_known_batch_norm_hands_over_what_its_first_pass_did(scene: Scene) -> None:
    found = {name: case for name, case in scene("batch_norm_scene.py").items() if name != "stderr"}
    assert len(found) == 8
    assert {name: case["looked up"] == case["known"] for name, case in found.items()} == dict.fromkeys(found, True)
    launches = {name: (len(case["looked up"]), case["again"]) for name, case in found.items()}
    # addresses that are no multiples of 16 are looked up each time: of odd channels, all but those of the statistics
    assert launches.pop("odd channels") == (4, 1)
    assert launches.pop("shifted input") == (4, 0)
    assert launches.pop("no gradient") == (2, 2)
    assert launches == dict.fromkeys(launches, (4, 4))
