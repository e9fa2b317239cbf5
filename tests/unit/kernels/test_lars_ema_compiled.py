"""The Triton kernels of LARS and the EMA compiled for real GPUs without one: no spills, and 16 bytes an access."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count

KERNELS = ["squares_kernel", "gather_kernel", "squares_kernel", "step_kernel", "follow_kernel"]
SHAPES = [(90, "float32"), *(pytest.param(s, marks=pytest.mark.slow) for s in ((80, "float32"), (90, "bfloat16")))]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_lars_ema.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu_and_moves_wide(compiled: Any, shape: tuple[Any, ...]) -> None:
    report = compiled(*shape)
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, shape[0])
        if kernel["name"] != "gather_kernel":  # it adds a few numbers
            tensors = {"squares_kernel": 2, "step_kernel": 4, "follow_kernel": 2}[kernel["name"]]
            assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") >= tensors, kernel["name"]
    assert count(report[3], "STG", "128") >= 3
    assert count(report[4], "STG", "128") >= 1
