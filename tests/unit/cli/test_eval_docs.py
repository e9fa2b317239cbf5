"""The commands of docs/evaluation.md work as they stand there."""

import re
from pathlib import Path

import pytest

from fra_dist.cli.main import main

PAGE = Path(__file__).parents[3] / "docs/evaluation.md"
COMMANDS = re.findall(r"^fra-dist ((?:eval|embed) .*(?:build/).*)$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRA_DIST_CACHE", str(tmp_path / "cache"))
    assert len(COMMANDS) == 12
    for command in COMMANDS:
        assert main(command.split()) == 0, command
        if "--checkpoint" in command:
            written = "manifest.json" if command.startswith("embed") else "result.json"
            assert (Path(command.split()[-1]) / written).exists()
    assert "not measured" not in capsys.readouterr().out
