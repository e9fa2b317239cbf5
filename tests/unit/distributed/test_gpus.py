import socket
import tempfile
from pathlib import Path

import pytest
import torch

from fra_dist.distributed import context, gpus
from fra_dist.errors import LaunchError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU that works")


@pytest.mark.parametrize(
    ("env", "sign"),
    [
        ({}, None),
        ({"SLURM_GPUS_ON_NODE": "0"}, None),
        ({"SLURM_GPUS_ON_NODE": "2"}, "SLURM_GPUS_ON_NODE=2"),
        ({"SLURM_JOB_GPUS": "0"}, "SLURM_JOB_GPUS=0"),  # a list of numbers: the first GPU
        ({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "1"}, "SLURM_STEP_GPUS=1"),
        ({"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, None),
        ({"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
    ],
)
def test_what_an_allocation_says(env: dict[str, str], sign: str | None, tmp_path: Path) -> None:
    found = gpus.sign_of_gpu(env, tmp_path)
    assert found is None if sign is None else sign in str(found)


def test_a_device_file_is_a_sign(tmp_path: Path) -> None:
    for name in ("nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus.sign_of_gpu({}, tmp_path) is None
    (tmp_path / "nvidia3").touch()
    assert gpus.sign_of_gpu({}, tmp_path) == f"{tmp_path / 'nvidia3'} is here"
    assert gpus.sign_of_gpu({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) is None


def test_a_driver_that_is_not_loaded_is_no_reason_to_take_the_cpu() -> None:
    with tempfile.TemporaryDirectory(prefix="dev") as folder, socket.socket(socket.AF_UNIX) as file:
        file.bind(f"{folder}/nvidia0")  # opening it fails with ENXIO, as a device without a driver does
        assert gpus.sign_of_gpu({}, Path(folder)) is not None


def test_which_gpu_a_rank_takes() -> None:
    assert [gpus.gpu_of_rank(local, 4, {}) for local in range(4)] == [0, 1, 2, 3]
    assert gpus.gpu_of_rank(3, 1, {"SLURM_GPUS_ON_NODE": "4"}) == 0  # srun --gpus-per-task=1 or --gpu-bind=single:1
    assert gpus.gpu_of_rank(1, 1, {"SLURM_GPUS_PER_TASK": "1"}) == 0
    for env in ({}, {"SLURM_GPUS_ON_NODE": "1"}):  # two ranks and one GPU
        with pytest.raises(LaunchError, match="local rank 1 has no GPU of its own: 1 visible"):
            gpus.gpu_of_rank(1, 1, env)


@without_gpu
def test_training_does_not_fall_back_to_the_cpu_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(LaunchError, match=r"SLURM_JOB_GPUS=0\).* torch .* built .*train\.device=cpu"):
        context._device("auto", 0)
    assert context._device("cpu", 0) == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert context._device("auto", 0) == torch.device("cpu")


@without_gpu
def test_a_gpu_that_was_asked_for_is_missed_with_the_reason() -> None:
    with pytest.raises(LaunchError, match=rf"{torch.version.cuda or 'without'}"):
        context._device("cuda", 0)
