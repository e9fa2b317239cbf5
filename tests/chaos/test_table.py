"""Steps that were lost, the table, goodput, and rows that outlive an interruption."""

import json
from dataclasses import asdict, replace

import pytest

from fra_dist.errors import LaunchError
from fra_dist.launch.chaos.campaign import read_results, result_line
from fra_dist.launch.chaos.campaign_table import campaign_totals, goodput, table
from fra_dist.launch.chaos.trainings import count_repeated
from fra_dist.launch.chaos.trial import FaultResult

GOOD = FaultResult(1, "kill -9", 7, "", "finished", [-9, 0], 2, 6.0, 24.0, True)
OTHER = FaultResult(2, "kill -9", 3, "", "finished", [-9, 0], 4, 10.0, 26.0, True)
WRONG = FaultResult(3, "full disk", 9, "", "finished", [1, 0], 0, 4.0, 20.0, False, "model.safetensors: a differs")
LOST = FaultResult(4, "SIGTERM", 9, "", "gave up", [75, 2], 0, None, 30.0, False, "refused")


@pytest.mark.parametrize(
    ("sequences", "lost"),
    [
        ([], 0),
        ([[1, 2, 3, 4]], 0),
        ([[1, 2, 3], [4, 5]], 0),
        ([[1, 2, 3, 4, 5, 6, 7], [6, 7, 8]], 2),
        ([[1, 2, 3], [], [1, 2]], 3),
        ([[1, 2, 3, 4, 5, 6, 7, 6, 7, 8]], 2),
        ([[1, 2, 3], [3, 4], [2, 3]], 1 + 3),
    ],
)
def test_steps_that_are_repeated(sequences, lost):
    assert count_repeated(sequences) == lost


def test_a_line_a_kind_and_one_for_all():
    head, *lines = table([GOOD, OTHER, WRONG, LOST]).splitlines()
    assert head.split()[0] == "fault"
    assert [line[:10].strip() for line in lines] == ["kill -9", "SIGTERM", "full disk", "all"]
    assert "2 of 2" in lines[0]
    assert "8.0, at most 10.0" in lines[0]
    assert " 3.0 " in lines[0]
    assert "0 of 1" in lines[1]
    assert lines[2].rstrip().endswith("0 of 1")
    assert lines[3].rstrip().endswith("2 of 4")
    assert len({len(line) for line in [head, *lines]}) == 1


def test_goodput_counts_what_faults_took():
    assert goodput([GOOD, OTHER]) == pytest.approx(1 - 16 / 50)
    assert goodput([LOST]) == 0
    assert goodput([]) == 0


def test_the_summary_tells_identical_from_as_expected():
    odd = replace(GOOD, difference="the damage was not reported")
    total = campaign_totals([GOOD, WRONG, LOST, odd])
    assert (total["faults"], total["finished"], total["identical"], total["as_expected"]) == (4, 3, 2, 1)


def test_a_line_names_what_is_wrong():
    assert "finished and identical, 2 steps lost, 6.0 s" in result_line(GOOD)
    assert "NOT IDENTICAL" in result_line(WRONG)
    assert "a differs" in result_line(WRONG)
    assert "gave up" in result_line(LOST)


def test_rows_are_read_again(tmp_path):
    about = {"campaign": {"seed": 1}}
    path = tmp_path / "faults.jsonl"
    assert read_results(path, about) == []
    path.write_text("".join(json.dumps(row) + "\n" for row in (about, asdict(GOOD), asdict(LOST))))
    assert read_results(path, about) == [GOOD, LOST]
    with pytest.raises(LaunchError, match="another campaign"):
        read_results(path, {"campaign": {"seed": 2}})
