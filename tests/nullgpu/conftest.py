"""The null GPU, compiled once, and scripts that run on it in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nullgpu import null_gpu
from tests.nullgpu.null_gpu import Scene


@pytest.fixture(scope="session")
def on_null_gpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that runs on the null GPU."""
    obstacle = null_gpu.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    folder = tmp_path_factory.mktemp("null_gpu")
    return null_gpu.environment(null_gpu.build(folder / "library"), folder)


@pytest.fixture(scope="session")
def scene(on_null_gpu: dict[str, str]) -> Scene:
    """What a script of this folder prints, from JSON."""

    def run(script: str, *words: str) -> dict[str, Any]:
        command = [sys.executable, str(Path(__file__).with_name(script)), *words]
        done = subprocess.run(command, env=on_null_gpu, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}

    return run
