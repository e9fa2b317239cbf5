"""Options stand before, between and after the other words; `~/` means home wherever a path begins."""

import importlib
import itertools
import json

import pytest

from fra_dist.cli.line.any_order import AnyOrderParser, at_home, command_first
from fra_dist.cli.main import main

LINES = [
    ("pretrain", ["c.yaml"], ["train.steps=3"], ["seed=1"], ["--dry-run"]),
    ("pretrain", ["c.yaml"], ["seed=1"], ["--from", "x"], ["--force"]),
    ("plan", ["c.yaml"], ["a=1"], ["--ranks", "8"], ["b=2"]),
    ("chaos", ["c.yaml"], ["a=1"], ["--faces"], ["--only", "kill"]),
    ("verify-resume", ["c.yaml"], ["a=1"], ["--world", "2"], ["b=2"]),
    ("launch", ["--config", "c.yaml"], ["a=1"], ["--nodes", "2"], ["b=2"]),
    ("ckpt", ["one"], ["two"], ["--out", "mean"], ["--last", "2"]),
    ("shards", ["photos"], ["--out", "x"], ["--workers", "2"], ["--no-report"]),
    ("eval", ["all"], ["suite.yaml"], ["--out", "x"], ["--limit", "9"]),
    ("convert", ["src"], ["dst"], ["--to", "ours"]),
    ("config", ["optim.lr"], ["--markdown"]),
]
WAYS = {"launch": ["slurm"], "ckpt": ["average"], "shards": ["make"]}


@pytest.mark.parametrize("line", LINES, ids=[f"{line[0]} {' '.join(line[-1])}" for line in LINES])
def test_all_orders_mean_the_same(line):
    name, *groups = line
    words = [group for group in groups if not group[0].startswith("--")]
    found = []
    for order in itertools.permutations(range(len(groups))):
        chosen = [groups[i] for i in order]
        if [group for group in chosen if group in words] != words:
            continue  # CONFIG comes before its overrides
        parser = AnyOrderParser()
        importlib.import_module(f"fra_dist.cli.{name.replace('-', '_')}").configure(parser)
        found.append(vars(parser.parse_args([*WAYS.get(name, []), *(word for group in chosen for word in group)])))
    assert len(found) > 1
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "c.yaml", "--dry-runn"], "unrecognized arguments: --dry-runn"),
        (["pretrain", "--dry-run"], "required: config"),
        (["pretrain", "c.yaml", "--fresh", "a=1", "--from", "x"], "not allowed with"),
        (["launch", "slurm", "a=1"], "required: --config"),
        (["convert", "a", "b", "--to", "ours", "c"], "unrecognized arguments: c"),
    ],
)
def test_wrong_lines_are_still_refused(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_home_at_the_beginning_of_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    words = ["~/c.yaml", "--out=~/x", "output=~/runs", "data.cache=~/c", "name=a~/b", "~", "model.decoder=~", "x/~/y"]
    assert at_home(words) == [
        *("/home/someone/c.yaml", "--out=/home/someone/x", "output=/home/someone/runs", "data.cache=/home/someone/c"),
        *("name=a~/b", "~", "model.decoder=~", "x/~/y"),
    ]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["--json", "ckpt", "ls", "RUN"], ["ckpt", "ls", "RUN", "--json"]),
        (["--json", "--seed=1", "eval", "x", "--", "-y"], ["eval", "x", "--json", "--seed=1", "--", "-y"]),
        (["--out", "x", "eval"], ["--out", "x", "eval"]),  # a value of its own cannot be told from the command
        (["--version", "eval"], ["--version", "eval"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_options_before_the_command_go_behind_it(words, first):
    assert command_first(words, ["ckpt", "eval"]) == first


def test_an_option_before_the_command_counts(capsys):
    assert main(["--json", "config", "optim.lr"]) == 0
    assert '"default": "0.9"' in capsys.readouterr().out


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("words", [["shards", "ls"], ["shards", "stats"], ["ckpt", "ls"], ["ckpt", "show"]])
def test_json_counts_at_every_place(words, place, shards, small_run, capsys):
    line = [*words, str(shards if words[0] == "shards" else small_run)]
    assert main([*line, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    line.insert(place, "--json")
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["shards", "--json", "make", "photos", "--out", "x"],
            "unrecognized arguments: --json (an option of other sub-",
        ),
        (["shards", "--workers", "2", "make", "photos", "--out", "x"], "invalid choice: '2'"),
        (["launch", "--dry-run", "nowhere"], "invalid choice: 'nowhere'"),
    ],
)
def test_what_no_sub_command_takes_is_refused(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_help_before_a_sub_command_is_that_of_the_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["shards", "--help", "ls"])
    assert caught.value.code == 0
    assert "usage: fra-dist shards [-h] ACTION" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pretrain", "plan", "verify-resume", "chaos"])
def test_only_the_configuration_is_required(command, capsys):
    with pytest.raises(SystemExit):
        main([command])
    assert capsys.readouterr().err.endswith("the following arguments are required: config\n")
