"""Two ranks with a GPU each meet: NCCL is bound to the device of its rank, and hosts decide by gloo."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nullgpu import null_gpu

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("visible", [2, 1])
def test_ranks_meet(on_null_gpu: dict[str, str], tmp_path: Path, visible: int) -> None:
    library = Path(on_null_gpu["LD_PRELOAD"].split(":")[0])
    environment = null_gpu.environment(library, tmp_path, gpus=visible)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment["SLURM_GPUS_ON_NODE"] = "2"  # with one visible: srun --gpus-per-task=1
    command = [sys.executable, str(Path(__file__).with_name("rank_scene.py"))]
    ranks = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    found = [json.loads(out.splitlines()[-1]) for out, _ in said]
    devices = ["cuda:0", "cuda:1"] if visible == 2 else ["cuda:0", "cuda:0"]
    assert [one["device"] for one in found] == [one["bound"] for one in found] == devices
    assert all(one["answers"] == [True, False] for one in found)
