"""Shipped configurations are found by name, from a checkout and from an installed wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fra_dist.cli.main import main
from fra_dist.config import load_config
from fra_dist.config.shipped import copy_shipped, find_config, shipped_configs, shipped_folder
from fra_dist.errors import ConfigError
from fra_dist.losses.correspondence import check_exchange

ROOT = Path(__file__).parents[3]
RECOMMENDED = ["recommended_8gpu", "recommended_gpu", "recommended_laptop"]
WEIGHTS = ["weights_r18", "weights_small"]
STUDY = ["study/fpn_small", "study/r18", "study/r18_fine", "study/r50", "study/r50_fine", "study/tiny"]
NAMES = ["debug_cpu", "demo", "photos_cpu", "photos_gpu", *RECOMMENDED, *STUDY, "vggface2_r50", *WEIGHTS]


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_configuration_of_the_repository_is_shipped_and_valid():
    assert list(shipped_configs()) == NAMES
    for name in NAMES:
        assert load_config(name) == load_config(ROOT / "configs" / f"{name}.yaml")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("study/")])
def test_its_head_says_how_to_run_it_and_what_to_expect(name):
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    for word in ("command", "hardware", "time", "expect"):
        assert any(line.startswith(f"# {word:<9} ") and len(line.split()) > 3 for line in head), word
    assert f"{name}" in text.replace("make demo", "demo")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RECOMMENDED, *WEIGHTS])
def test_what_is_recommended_goes_through_a_step(name, capsys):
    """With small images and heads, so that it takes seconds; places of photos are as they will be."""
    small = ["data.image_size=32", "model.hidden=32", "train.device=cpu", "train.backend=torch"]
    assert main(["pretrain", name, "--dry-run", *small]) == 0
    said = capsys.readouterr().out
    assert "exchange: true" in said
    assert "prototypes: clusters" in said
    assert "memory of a rank" in said


@pytest.mark.parametrize("name", RECOMMENDED)
def test_what_is_recommended_divides_among_ranks(name):
    config = load_config(name)
    for world in (1, 2, 4, 8, 16):
        check_exchange(config.loss, config.train.global_batch, 1, world)


@pytest.mark.parametrize("given", ["demo", "demo.yaml", "configs/demo.yaml", "configs/demo", "./configs/demo.yaml"])
def test_a_name_finds_the_shipped_one(given):
    assert find_config(given) == shipped_folder("configs") / "demo.yaml"


def test_a_file_of_ones_own_comes_first(empty):
    (empty / "configs").mkdir()
    (empty / "configs" / "demo.yaml").write_text("name: mine\n")
    assert load_config("configs/demo.yaml").name == "mine"
    assert load_config("demo").name == "demo"
    (empty / "demo").mkdir()
    assert load_config("demo").name == "demo", "a folder is no configuration"
    (empty / "demo").rmdir()
    (empty / "demo").write_text("name: also mine\n")
    assert load_config("demo").name == "also mine"


def test_a_shipped_one_in_place_of_a_path_is_said(caplog):
    load_config("demo")
    assert not caplog.records
    load_config("configs/demo.yaml")
    assert "configs/demo.yaml is not here: using the shipped configuration" in caplog.text


def test_what_is_neither_a_file_nor_shipped_is_refused_with_what_there_is():
    for given in ("nosuch", "elsewhere/demo.yaml", "configs/nosuch.yaml"):
        with pytest.raises(ConfigError, match=f"cannot read configuration {given}.*shipped with fra-dist: debug_cpu"):
            load_config(given)


def test_copies_are_whole_and_nothing_is_overwritten(empty):
    written = copy_shipped(empty / "start")
    assert {path.relative_to(empty / "start") for path in written} == {
        path.relative_to(ROOT)
        for kind in ("configs", "launchers")
        for path in (ROOT / kind).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path in written:
        assert path.read_bytes() == (ROOT / path.relative_to(empty / "start")).read_bytes()
        assert os.access(path, os.X_OK) == (path.suffix in (".sh", ".sbatch"))
    with pytest.raises(ConfigError, match="exists already, and nothing was written"):
        copy_shipped(empty / "start")
    (empty / "other" / "launchers").mkdir(parents=True)
    (empty / "other" / "launchers" / "torchrun.sh").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"torchrun\.sh exists already"):
        copy_shipped(empty / "other")
    assert not (empty / "other" / "configs").exists()


def test_a_place_that_cannot_be_written_is_one_line(empty):
    (empty / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*file"):
        copy_shipped(empty / "file")


def test_an_installed_wheel_does_the_same_in_an_empty_folder(empty):
    """Builds the wheel, unpacks it as an installer would, and uses it away from the checkout."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(empty / "dist")],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert built.returncode == 0, f"hatchling, of the extra `dev`, builds the wheel: {built.stderr}"
    (wheel,) = (empty / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(empty / "site")
    for kind in ("configs", "launchers"):
        for path in (ROOT / kind).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"fra_dist/_shipped/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "fra_dist").rglob("*"):  # templates, weights and C sources as well as modules
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    (told,) = (empty / "site").glob("fra_dist-*.dist-info/entry_points.txt")
    assert "fra-dist = fra_dist.cli.main:main" in told.read_text()
    assert not [name for name in names if name.startswith(("tests/", "configs/", "launchers/", "docs/"))]

    work = empty / "work"
    work.mkdir()
    env = {**os.environ, "PYTHONPATH": str(empty / "site")}

    def say(*words):
        command = [sys.executable, "-m", "fra_dist.cli.main", *words]
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [line.split()[0] for line in say("config", "list").splitlines()[: len(NAMES)]] == NAMES
    assert "start/launchers/torchrun.sh" in say("init", "start")
    shown = say("pretrain", "debug_cpu", "--dry-run", "train.steps=7", "train.backend=torch")
    assert "name: debug_cpu" in shown
    assert "7 steps" in shown
    assert "Synthetic faces to report page" in say("demo", "--help")
    loaded = "import fra_dist; print(fra_dist.load('small-synthetic').regions)"
    shipped = "import fra_dist.config.shipped as s; print(s.shipped_folder('configs'))"
    found = subprocess.run(
        [sys.executable, "-c", f"{loaded}\n{shipped}"], cwd=work, env=env, capture_output=True, text=True, timeout=250
    )
    assert found.stdout.split() == ["8", str(empty / "site" / "fra_dist" / "_shipped" / "configs")], found.stderr
