"""`fra-dist pretrain` itself, as small as it goes: 8 photos a step, a checkpoint every 10 steps."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.waiting import rows

ROOT = Path(__file__).parents[2]
STEPS = 40


def settings(shards: Path, run: Path) -> list[str]:
    return [
        *("--config", str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={shards}"),
        *(f"train.steps={STEPS}", "train.global_batch=8", "log.heatmaps_every=0", "log.tensorboard=false"),
        *("data.pipeline=torch", "data.threads=1", "checkpoint.every_steps=10"),
    ]


def weights(run: Path) -> dict[str, str]:
    """Checksums of the files with the final weights and the optimiser's state."""
    manifest = json.loads((run / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json").read_text())
    return {name: facts["sha256"] for name, facts in manifest["files"].items() if name.endswith("safetensors")}


def last_step(run: Path) -> int:
    return max((row["step"] for row in rows(run / "metrics.jsonl")), default=0)


def fra(*words: str) -> None:
    command = [sys.executable, "-m", "fra_dist.cli.main", *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=360)
    assert said.returncode == 0, said.stdout + said.stderr
