"""Benchmarks are scripts beside the package: their folder is put on the path, last."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.append(str(BENCHMARKS))

ADAPTER = """
import published_recipe  # from the checkout
from types import SimpleNamespace

import torch
from plain_fra import PlainStep
from fra_dist.config import parse_config


def make_step(setting, weights):
    decoder = {key: setting[key] for key in ("layers", "heads", "feedforward", "dropout")}
    model = {key: setting[key] for key in ("backbone", "regions", "width", "hidden")} | {"decoder": decoder}
    step = PlainStep(parse_config({"model": model}), weights, torch.device(setting["device"]))
    return lambda one, two: step(one, two, setting["lr"], setting["ema_momentum"]) * published_recipe.SCALE


def no_step(setting, weights):
    raise AssertionError(sorted(setting), len(weights))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in the place of the published code, with an adapter in it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "published_recipe.py").write_text("SCALE = 1.0\n")
    (folder / "adapter.py").write_text(ADAPTER)
    return folder


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What adapters put on the path and import goes away again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "published_recipe", raising=False)
