"""Training with the kernels, in Triton's interpreter, is training without them; and they do run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def interpret(*checks: str) -> dict[str, str | None]:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore", "FRA_DIST_KERNELS": "auto"}
    command = [sys.executable, str(HERE / "interpret_step.py"), *checks]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_optimiser() -> None:
    assert interpret("lars", "pieces") == {"lars": None, "pieces": None}


@pytest.mark.slow
def test_the_whole_step() -> None:
    assert interpret("step", "adamw") == {"step": None, "adamw": None}


@pytest.mark.slow
def test_the_correspondence_term_and_clusters() -> None:
    assert interpret("corresponding") == {"corresponding": None}
