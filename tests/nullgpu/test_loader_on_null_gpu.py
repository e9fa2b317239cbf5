"""What the loader asks of a GPU for a batch when the host decodes: two copies and a kernel a view, and no waiting."""

from pathlib import Path

import pytest

from tests.nullgpu import null_gpu
from tests.nullgpu.loader_scene import MEASURED
from tests.nullgpu.null_gpu import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LAUNCHES = 5
"""Of a batch of two views: their pixels, one copy of all numbers, and two kernels."""


def test_a_batch_is_copied_finished_and_waited_for_by_nobody(scene: Scene, shards: Path) -> None:
    found = scene("loader_scene.py", str(shards), "torch", "none")
    assert found["views"] == [["torch.bfloat16", "cuda", True]] * 2
    assert null_gpu.problems(found, LAUNCHES * (MEASURED + 2)) == []  # two batches more may be under way
    assert found["triton_kernels"] >= 2 * (MEASURED - 4)
    assert found["kernels"] == 0


@pytest.mark.parametrize(("mistake", "counted"), [("pageable", "pageable_copies"), ("synchronize", "stream_syncs")])
def test_a_careless_loader_is_noticed(scene: Scene, shards: Path, mistake: str, counted: str) -> None:
    problems = null_gpu.problems(scene("loader_scene.py", str(shards), "torch", mistake), 10_000)
    assert any(problem.endswith(counted) for problem in problems)


def test_doing_without_dali_on_a_gpu_is_said_with_the_reason(scene: Scene, shards: Path) -> None:
    """DALI brings its own CUDA runtime, to which this GPU is none."""
    found = scene("loader_scene.py", str(shards), "auto", "none")
    assert found["triton_kernels"] > 0
    assert "warning: DALI cannot be used (" in found["stderr"]
