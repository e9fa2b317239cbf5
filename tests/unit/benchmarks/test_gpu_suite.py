"""`benchmarks/gpu_suite.py` from end to end on the CPU, at the size of a test, and what becomes of its rows."""

import json
import time
from pathlib import Path

import gpu_suite
import pytest
import torch
from suite_parts import KERNELS, PARTS, Job
from suite_targets import figures

from fra_dist.json_lines import read_rows

TRIAL = ["--device", "cpu", "--quick"]


def quick(seconds: float = 600.0) -> Job:
    return Job(torch.device("cpu"), True, (2,), time.time() + seconds)


def test_without_a_gpu_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_suite.main([]) == 2
    assert gpu_suite.main(["--device", "cpu"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "no CUDA device" in first
    assert "--quick" in second


def test_parts_run_in_processes_and_leave_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chosen = ["ceilings", "kernel: relation", "step: published", "step: torch.compile"]
    assert gpu_suite.main([*TRIAL, "--out", str(tmp_path), "--only", *chosen]) == 0
    rows = read_rows(tmp_path / "gpu_suite.jsonl")
    assert {row["part"] for row in rows} == {"ceilings", "kernel: relation"}
    assert all(row["device"].startswith("CPU") and row["versions"]["torch"] and row["quick"] for row in rows)
    shown = capfd.readouterr().out
    assert "device copy" in shown
    assert "left out: step: published: no --published" in shown
    assert "left out: step: torch.compile: compiling" in shown
    assert "collectives in a step" in shown


def test_what_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_suite.main([*TRIAL, "--minutes", "0.3", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    for name in PARTS:
        assert f"left out: {name}: " in shown
    assert "left out: step: ours: 3 s left, and it needs 30" in shown


def test_a_part_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_suite, "_GRACE", 0.0)
    args = gpu_suite.arguments([*TRIAL, "--out", str(tmp_path)])
    assert "its time was over" in gpu_suite.in_a_process(args, tmp_path, "ceilings", time.time() + 0.1)


def test_a_part_that_fails_is_named(tmp_path: Path) -> None:
    args = gpu_suite.arguments([*TRIAL, "--out", str(tmp_path)])
    args.published, args.published_step = tmp_path / "none", "adapter.py:make_step"
    assert "failed" in gpu_suite.in_a_process(args, tmp_path, "step: published", time.time() + 120)


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_suite.main([*TRIAL, "--only", "celings"])
    assert "no part 'celings'" in capsys.readouterr().err


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_s_benchmark_runs_and_heeds_its_deadline(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import measuring
    import region_attention

    monkeypatch.setattr(measuring.in_turns, "__defaults__", (1,))
    monkeypatch.setattr(region_attention.in_turns, "__defaults__", (1,))
    rows = list(PARTS[f"kernel: {name}"].run(quick()))
    assert all(row["ms"] > 0 for row in rows)
    if len(rows) > 1:
        assert len(list(PARTS[f"kernel: {name}"].run(quick(-1)))) == 1
        assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["ours", "eager", "eager channels-last"])
def test_steps_are_measured(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = PARTS[f"step: {way}"].run(quick())
    assert row["way"] == way
    assert row["images_s"] == pytest.approx(2 / row["ms"] * 1e3)
    assert row["operations"] > 500
    assert way in capsys.readouterr().out
    json.dumps(row)


def test_memory_that_does_not_suffice_is_a_row() -> None:
    from suite_parts import whole_step

    def make(setting: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    (row,) = whole_step("ours", make, quick())  # type: ignore[arg-type]
    assert row["failed"] == "out of memory"


def test_figures_are_of_the_best_of_ours_and_the_worst_map() -> None:
    ours = {"batch": 256, "outside_convolutions": 280, "waits": 0, "peak_gib": 30.0}
    rows = [
        {"part": "step: ours", "way": "ours", "images_s": 1800.0, **ours},
        {"part": "step: ours, CUDA graph", "way": "ours, CUDA graph", "images_s": 2000.0, **ours},
        {"part": "step: eager", "way": "eager", "batch": 256, "images_s": 700.0, "peak_gib": 60.0},
        {"part": "step: torch.compile", "way": "torch.compile", "batch": 256, "images_s": 1600.0},
        {"part": "step: published", "way": "published", "batch": 256, "failed": "out of memory"},
        {"part": "kernel: batch_norm", "path": "ours", "side": 7, "of_copy": 0.8},
        {"part": "kernel: batch_norm", "path": "ours", "side": 56, "of_copy": 0.9},
        {"part": "kernel: region_attention", "path": "ours", "side": 7, "ms": 1.0, "share_of_copy": 0.3},
        {"part": "kernel: region_attention", "path": "ours", "side": 14, "ms": 1.0, "share_of_copy": 0.8},
        {"part": "kernel: region_attention", "path": "eager", "side": 14, "ms": 2.5, "share_of_copy": 0.3},
        {"part": "collectives", "what": "collectives", "total": 186},
    ]
    found = {name: (aim(value) if value is not None else None, value) for name, aim, _, value in figures(rows)}
    assert found["batch norm, share of the copy rate, worst map"] == (False, 0.8)
    assert found["LARS and EMA, share of the copy rate"] == (None, None)
    assert found["region attention, H·W ≥ 196, share of the copy rate"] == (True, 0.8)
    assert found["  against eager, times as fast"] == (True, 2.5)
    assert found["step, 256 images (ours, CUDA graph): images/s"] == (True, 2000.0)
    assert found["step, 256 images (ours, CUDA graph): against torch.compile"] == (True, 1.25)
    assert found["step, 256 images (ours, CUDA graph): against published"] == (None, None)
    assert found["step, 256 images (ours, CUDA graph): peak memory, share of eager"] == (True, 0.5)
    assert found["collectives in a step"] == (True, 186)
    assert found["step, 64 images (ours): waits for the device"] == (None, None)
