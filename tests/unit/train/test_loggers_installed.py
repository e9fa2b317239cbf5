"""W&B and MLflow themselves: the tests of `test_sinks.py`, and a run, in an environment that has both.

Neither is part of the extra `dev`: where mlflow is installed, DeepSpeed imports it at every start of a rank.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.helpers.tiny import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A Python that has the extras `wandb` and `mlflow`, and behind them everything that this one has."""
    place = tmp_path_factory.mktemp("loggers") / "venv"
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("there is no uv beside this Python, as `make setup` installs it")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True, timeout=60)
    found = place / "bin" / "python"
    wanted = [uv, "pip", "install", "--quiet", "--python", found, *extras["wandb"], *extras["mlflow"]]
    installed = subprocess.run(wanted, capture_output=True, text=True, timeout=200)
    if installed.returncode:
        pytest.skip(f"W&B and MLflow cannot be installed here: {installed.stderr.strip()[-200:]}")
    (site,) = (place / "lib").glob("python3*/site-packages")
    (site / "behind.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return found


def run(python: Path, *words: object) -> str:
    done = subprocess.run(
        [python, *map(str, words)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_sink_is_read_back(python):
    assert run(python, "-c", "import wandb, mlflow; print('both')").strip() == "both"
    chosen = ("-k", "wandb or mlflow or store", "-p", "no:cacheprovider")
    said = run(python, "-m", "pytest", "-v", *chosen, "tests/unit/train/test_sinks.py")
    assert re.search(r" [3-9] passed, \d+ deselected", said), said  # and none skipped


def test_a_run_that_is_stopped_and_resumed_is_one_run_in_both(python, shards, tmp_path):
    folder, store = tmp_path / "run", tmp_path / "store"
    words = [
        "debug_cpu",
        *TINY,
        f"data.shards={shards}",
        f"output={folder}",
        "train.backend=torch",
        "log.every_steps=1",
    ]
    words += ["log.wandb=offline", f"log.mlflow={store}", "optim.warmup_steps=1"]
    for steps in (2, 4):
        said = run(python, "-m", "fra_dist.cli.main", "pretrain", *words, f"train.steps={steps}", "--force")
        assert "takes no more rows" not in said
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (metric,) = store.glob("*/*/metrics/loss/total")
    logged = {int(step): float(value) for _, value, step in map(str.split, metric.read_text().splitlines())}
    assert logged == {row["step"]: pytest.approx(row["loss/total"]) for row in rows}
    assert sorted(logged) == [1, 2, 3, 4]
    offline = list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(offline) == 2, "a file an attempt"
    assert len({path.stem for path in offline}) == 1, "of one run"
