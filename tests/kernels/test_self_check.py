"""Kernels are tried before they are trusted; in Triton's interpreter, see `interpret_self_check`."""

import logging
from typing import Any

import pytest
import torch

from fra_dist import kernels
from fra_dist.cli import main
from fra_dist.kernels import dispatch, self_check
from tests.kernels.interpreting import HERE, interpret

KERNELS = sorted(path.parent.name for path in HERE.glob("*/checks.py"))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return interpret("interpret_self_check.py", "checks")


def test_every_kernel_is_tried_in_both_dtypes(found: dict[str, Any]) -> None:
    assert set(KERNELS) == set(kernels.describe())
    assert found["good"] == {f"{kernel} {dtype}": None for kernel in KERNELS for dtype in ("float32", "bfloat16")}
    assert not any(found["recorded"].values())  # trying is not running
    assert found["path"] == "triton"


def test_a_kernel_that_is_wrong_is_left_out(found: dict[str, Any]) -> None:
    wrong = {name: problem for name, problem in found["wrong"].items() if problem}
    assert set(wrong) == {"region_attention float32", "region_attention bfloat16"}
    assert all(problem.startswith("results differ by 0.1") for problem in wrong.values())
    assert found["path of a wrong one"] == "reference"
    assert found["path when insisted on"] == "triton"


def test_so_is_one_that_does_not_run(found: dict[str, Any]) -> None:
    assert found["refused"]["region_attention float32"] == "RuntimeError: no such instruction"
    assert found["refused"]["relation float32"] is None


def test_one_that_fails_without_a_word_is_named_too() -> None:
    def fail(*_: Any) -> list[torch.Tensor]:
        raise AssertionError

    found = self_check._try("some", fail, torch.float32, torch.device("cpu"))
    assert (found.kernel, found.problem) == ("some", "AssertionError")


def test_a_distrusted_kernel_is_named_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "_distrusted", {})
    monkeypatch.setattr(dispatch, "device_obstacle", lambda *_: None)
    monkeypatch.setattr(dispatch, "_wish", "auto")
    assert dispatch.use_triton("some", None, on_gpu=True)
    dispatch.distrust("some", "self-check in float32: results differ by 3")
    assert not dispatch.use_triton("some", None, on_gpu=True)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "kernel some: the plain path runs from now on (self-check in float32: results differ by 3)" in warned


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs them")
def test_without_a_gpu_there_is_nothing_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="tensors on the CPU"):
        self_check.check_kernels(torch.device("cpu"))
    assert main.main(["kernels"]) == 0
    *lines, convolutions, bf16 = capsys.readouterr().out.splitlines()
    assert convolutions.startswith("convolutions ")
    assert bf16.startswith("bf16 ")
    assert [line.split()[0] for line in lines] == sorted(KERNELS, key=list(kernels.describe()).index)
    assert all("reference" in line for line in lines)
