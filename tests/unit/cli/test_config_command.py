"""`fra-dist config` and `fra-dist init`, as they are typed."""

from pathlib import Path

import pytest

from fra_dist.cli.main import main
from fra_dist.config.key_reference import all_keys, as_markdown

ROOT = Path(__file__).parents[3]


def lines(capsys, *words):
    assert main(words) == 0
    return capsys.readouterr().out.splitlines()


def test_one_key(capsys):
    assert lines(capsys, "config", "train.global_batch") == [
        "train.global_batch = 512",
        "    whole number, 2 to 2^20",
        "    Images of one step over all ranks and accumulation passes; each gives two",
        "    views.",
    ]


def test_everything_within_the_width_of_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    found = lines(capsys, "config")
    assert max(map(len, found)) <= 60
    heads = [line.partition(" = ")[0] for line in found if line and not line.startswith(" ")]
    assert heads == [key.name for key in all_keys()]


def test_the_page(capsys):
    assert main(["config", "--markdown"]) == 0
    assert capsys.readouterr().out == as_markdown()


def test_the_shipped_ones_with_what_they_are_for(capsys):
    found = lines(capsys, "config", "list")
    assert any(line.startswith("demo ") and "small network on synthetic faces" in line for line in found)


def test_a_wrong_name_is_one_line(capsys):
    assert main(["config", "train.lr"]) == 2
    assert capsys.readouterr().err == (
        "fra-dist config: no section or key is called train.lr (did you mean optim.lr?)\n"
    )


def test_init_makes_a_folder_to_begin_from(capsys, tmp_path):
    found = lines(capsys, "init", str(tmp_path / "start"))
    assert str(tmp_path / "start" / "configs" / "demo.yaml") in found
    assert (tmp_path / "start" / "launchers" / "slurm.py").read_text() == (ROOT / "launchers" / "slurm.py").read_text()
    assert main(["init", str(tmp_path / "start")]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["debug_cpu", "configs/debug_cpu.yaml"])
def test_a_shipped_configuration_by_its_name_from_anywhere(given, tmp_path, monkeypatch, shards, capsys):
    monkeypatch.chdir(tmp_path)
    found = lines(capsys, "plan", given, f"data.shards={shards}", "--ranks", "2", "train.steps=6")
    assert any("6 in all" in line for line in found)
