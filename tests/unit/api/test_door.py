"""What is imported by its obvious name: lazily, completely, and typed."""

import importlib
import subprocess
import sys

import pytest

USE = """
from pathlib import Path

import fra_dist
from fra_dist import FRA, Config, FaceModel, fra_loss, load, load_config, load_manifest, make_shards
from fra_dist.data import Batch, Manifest, ShardOptions
from fra_dist.losses import Placement, semantic_relation
from fra_dist.models import FRANetwork, build_backbone

def use(folder: Path, config: Config) -> FaceModel:
    manifest: Manifest = make_shards(str(folder), folder / "shards", ShardOptions())
    assert load_manifest(folder / "shards").total == manifest.total
    network: FRANetwork = FRA(config.model).online
    print(network, build_backbone("tiny"), fra_loss, semantic_relation, Batch, Placement, load_config)
    return load(folder)

print(fra_dist.__version__)
"""


@pytest.mark.parametrize("package", ["fra_dist", "fra_dist.models", "fra_dist.losses", "fra_dist.data"])
def test_every_name_that_is_offered_is_there(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, fra_dist; print(sorted({'torch', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_code_that_uses_the_door_only_is_well_typed(tmp_path):
    (tmp_path / "use.py").write_text(USE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "use.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
