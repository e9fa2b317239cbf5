"""The report of runs: what is on the page, for one run and for several."""

import json
import re

import pytest
from PIL import Image

from fra_dist.cli.main import main
from fra_dist.config import dump_config, load_config
from fra_dist.errors import DataError
from fra_dist.report.evaluation_tables import lower_is_better
from fra_dist.report.run_files import read_runs
from fra_dist.report.svg_chart import Floor, Line, chart, thinned

DOCUMENT = {
    "task": "alignment",
    "dataset": {"name": "wflw"},
    "network": {"checkpoint": "runs/<b>mine"},
    "scores": {
        "nme/linear": {"value": 0.09, "low": 0.08, "high": 0.10},
        "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8},
    },
    "beside": {
        "untrained": {"scores": {"nme/linear": 0.08, "accuracy": 0.5}},
        "pixels": {"scores": {"nme/linear": 0.12, "accuracy": 0.75}},
    },
}


def write_run(folder, *words, steps=30):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(load_config("debug_cpu", [f"name={folder.name}", *words])))
    rows = [
        {
            "step": s,
            "loss/total": 5 - s / 10,
            "loss/relation": 1.4 - s / 40,
            "images_per_second": 50.0,
            "data_wait": 0.1,
        }
        for s in range(1, steps + 1)
    ]
    rows += [{"step": s, "probe/faces/expression/linear": 0.3 + s / 100} for s in (0, 10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events = [
        {"time": 1.0, "event": "start"},
        {"time": 2.0, "event": "checkpoint", "step": 10},
        {"time": 3.0, "event": "launch restart", "attempt": 1, "cause": "rank 0 <killed>"},
        {"time": 4.0, "event": "resume", "step": 10},
        {"time": 5.0, "event": "alarm", "sign": "rank", "step": 12, "text": "few directions"},
        {"time": 6.0, "event": "complete", "step": 30},
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events))
    (folder / "heatmaps").mkdir()
    for name in ("photos", "step-00000000", "step-00000010", "step-00000020"):
        Image.new("RGB", (128, 32), (9, 99, 199)).save(folder / "heatmaps" / f"{name}.strip.png")
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "one")


def test_one_run(run, tmp_path, capsys):
    (run / "eval" / "wflw").mkdir(parents=True)
    (run / "eval" / "wflw" / "result.json").write_text(json.dumps(DOCUMENT))
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = (run / "report.html").read_text()
    assert "resumed at step 10" in page
    assert "few directions" in page
    assert "rank 0 &lt;killed&gt;" in page
    assert ">ln 4: no regions yet<" in page
    assert ">untrained<" in page  # the floor of the probe: its value before the first step
    assert "train.global_batch" in page  # differs from the defaults
    assert page.count("<figure") == 4
    assert "nme/linear (lower is better)" in page
    assert "nme/linear: worse than an untrained network (0.0900 against 0.0800)" in page
    assert "accuracy: worse than pixels (0.7000 against 0.7500)" in page
    assert "accuracy: worse than an untrained" not in page
    assert "runs/&lt;b&gt;mine" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", page, re.S))


def test_several_runs_and_what_they_do_differently(run, tmp_path):
    other = write_run(tmp_path / "deep" / "one", "optim.lr=0.5", steps=3)
    assert main(["report", str(run), str(other), "--out", str(tmp_path / "pages" / "both.html")]) == 0
    page = (tmp_path / "pages" / "both.html").read_text()
    assert "What the runs do differently" in page
    cells = re.findall(r'<t[hd][^>]*data-head="[^"]*">([^<]*)</t', page)
    at = cells.index("optim.lr")
    assert cells[at : at + 3] == ["optim.lr", "0.9", "0.5"]
    assert "train.global_batch" not in cells
    assert "deep/one" in page  # two folders with the same name


def test_what_is_no_run(run, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["report", str(run.parent)]) == 2
    assert f"is not a run folder, but holds {run.parent}" in capsys.readouterr().err
    assert main(["report", str(run), str(run)]) == 2
    assert main(["report", str(run), "--eval", str(tmp_path / "none")]) == 2
    assert main(["report", str(run), "--out", str(run / "config.yaml" / "x.html")]) == 2


def test_a_run_that_has_not_begun(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(load_config("debug_cpu")))
    assert main(["report", str(folder)]) == 0
    assert read_runs([folder])[0].state == "not complete"
    with pytest.raises(DataError):
        read_runs([tmp_path / "none"])


def test_charts_of_few_points_and_of_many():
    one = chart("a <b>", [Line("x", [(5.0, 2.0)])], [Floor("low", 1.0)])
    assert "<circle" in one
    assert "a &lt;b&gt;" in one
    flat = chart("flat", [Line("x", [(1.0, 0.0), (2.0, 0.0)]), Line("y", [(1.0, 1.0)])], marks=[1.5])
    assert flat.count("polyline") == 1
    assert flat.count('class="resume"') == 1
    many = [(float(i), float(i)) for i in range(5000)]
    assert len(thinned(many)) == 600
    assert (thinned(many)[0], thinned(many)[-1]) == (many[0], many[-1])


@pytest.mark.parametrize(
    ("score", "low"), [("nme/linear", True), ("age_mae", True), ("accuracy", False), ("nmi", False)]
)
def test_directions_of_scores(score, low):
    assert lower_is_better(score) == low
