"""`benchmarks/start.py`: one start of this checkout, what is made of the times, and what a start imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import start

ROOT = Path(__file__).parents[3]
SMALL = ["model.hidden=32", "model.width=16", "train.global_batch=16", "log.heatmaps_every=1"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "shards"
    make = ["-m", "fra_dist.cli.main", "shards", "make", "synthetic:32@48", "--workers", "1", "--no-report"]
    subprocess.run([sys.executable, *make, "--out", str(folder)], check=True, capture_output=True, timeout=120)
    return folder


def test_a_start_is_measured_to_its_first_step(faces: Path) -> None:
    found = start.measure(ROOT, "photos_cpu", faces, SMALL, min(start.os.sched_getaffinity(0)))
    assert 0 < found["start"] < found["step"] <= found["line"]


def test_a_first_step_imports_nothing_that_it_does_not_need(faces: Path, tmp_path: Path) -> None:
    slow = "{'matplotlib', 'boto3', 'sympy', 'torch._dynamo', 'deepspeed', 'tensorflow', 'sklearn', 'webdataset'}"
    code = "import sys, start\nfrom pathlib import Path\nfrom fra_dist.cli.main import main\n"
    code += "def look(status):\n"
    code += f"    print(sorted({slow} & set(sys.modules)), flush=True)\n    leave(status)\n"
    code += "leave, start.os._exit = start.os._exit, look\n"
    code += f"sys.stdout = start.Watched(sys.stdout, Path({str(tmp_path / 'spent.json')!r}))\nmain(sys.argv[1:])\n"
    words = ["pretrain", "photos_cpu", f"data.shards={faces}", f"output={tmp_path / 'run'}", *start.SETTINGS, *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        **{"cwd": ROOT / "benchmarks", "capture_output": True, "text": True, "timeout": 240},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "start" in json.loads((tmp_path / "spent.json").read_text())


def test_a_command_that_ends_early_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="status 2"):
        start.measure(ROOT, "photos_cpu", tmp_path / "nowhere", [], min(start.os.sched_getaffinity(0)))


def test_ratios_are_of_the_same_round() -> None:
    def row(seconds: float) -> dict[str, float]:
        return {"start": seconds / 2, "step": seconds, "line": seconds + 1}

    found = start.summary([{"old": row(old), "new": row(new)} for old, new in ((2.0, 1.0), (9.0, 3.0), (4.0, 1.0))])
    assert found["old_over_new"] == 3.0
    assert found["old"] == {"start": 2.0, "step": 4.0, "line": 5.0}
