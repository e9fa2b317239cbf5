import logging
import subprocess
import sys

import pytest
import torch

from fra_dist import kernels
from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.region_attention import region_attention


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_choices", {})
    monkeypatch.setattr(dispatch, "_logged", set())
    monkeypatch.setattr(dispatch, "_wish", "auto")


def call() -> None:
    region_attention(torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2), torch.randn(2, 4), 1.0)


@pytest.mark.usefixtures("fresh")
def test_describe_tells_path_and_reason_before_and_after_a_call() -> None:
    if not torch.cuda.is_available():
        assert str(kernels.describe()["region_attention"]) == "reference (tensors on the CPU; not called yet)"
    call()
    assert str(kernels.describe()["region_attention"]) == "reference (tensors on the CPU)"
    with kernels.force("reference"):
        call()
    assert str(kernels.describe()["region_attention"]) == "reference (reference insisted on)"


@pytest.mark.usefixtures("fresh")
def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fra_dist.kernels"):
        call()
        call()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "kernel region_attention: reference (tensors on the CPU)")
    ]


@pytest.mark.usefixtures("fresh")
def test_falling_back_on_a_gpu_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert not dispatch.use_triton("region_attention", "dtype torch.float64", on_gpu=True)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


@pytest.mark.usefixtures("fresh")
def test_insisting_on_a_kernel_that_cannot_run_is_an_error() -> None:
    with kernels.force("triton"), pytest.raises(ConfigError, match=r"tensors on the CPU.*FRA_DIST_KERNELS=auto"):
        call()
    call()


@pytest.mark.usefixtures("fresh")
def test_force_is_undone_also_after_an_error() -> None:
    with pytest.raises(RuntimeError), kernels.force("reference"):
        raise RuntimeError
    assert dispatch._wish == "auto"
    with pytest.raises(ConfigError, match="'cuda'; use one of auto, reference, triton"), kernels.force("cuda"):
        pass


@pytest.mark.usefixtures("fresh")
def test_obstacles_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert dispatch._device_obstacle.__wrapped__("cuda", 0) == "GPU of compute capability 7.5, below 8.0"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert dispatch._device_obstacle.__wrapped__("cuda", 0) is None
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
    assert dispatch._device_obstacle.__wrapped__("cuda", 0) == "Triton is not installed"


def test_the_environment_insists_and_nothing_slow_is_imported_for_the_cpu() -> None:
    code = (
        "import sys, torch; from fra_dist import kernels; from fra_dist.errors import ConfigError\n"
        "from fra_dist.kernels.region_attention import region_attention\n"
        "try: region_attention(torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2), torch.randn(2, 4), 1.0)\n"
        "except ConfigError as error: print(error)\n"
        "print(sorted({'triton', 'torch._dynamo', 'fra_dist.kernels.region_attention.op'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"FRA_DIST_KERNELS": "triton"}, capture_output=True, text=True, check=True
    )
    error, imported = done.stdout.strip().splitlines()
    assert error.startswith("kernel region_attention: Triton is insisted on but cannot run (tensors on the CPU)")
    assert imported == "[]"
