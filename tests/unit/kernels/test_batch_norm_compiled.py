"""Batch norm's Triton kernels compiled for real GPUs without one: no spills, and 16 bytes an access."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count, narrow

OVER_MAPS = ("moments_kernel", "transform_kernel", "sums_kernel", "gradients_kernel")
KERNELS = ["moments_kernel", "collect_kernel", *OVER_MAPS[1:], "finish_kernel", "follow_kernel"]
SHAPES = [
    (90, "bfloat16", 7, 2048),
    *(pytest.param((c, t, 56, 64), marks=pytest.mark.slow) for c in (80, 90) for t in ("bfloat16", "float32")),
]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_batch_norm.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu_and_moves_wide(compiled: Any, shape: tuple[Any, ...]) -> None:
    report = compiled(*shape)
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, shape[0])
    for kernel in (kernel for kernel in report if kernel["name"] in OVER_MAPS):
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
    for kernel in (report[2], report[4]):
        assert count(kernel, "STG", "128") > 0, kernel["name"]


@pytest.mark.slow
def test_the_search_for_narrow_accesses_finds_them(compiled: Any) -> None:
    assert narrow(compiled(90, "bfloat16", 7, 63)[2]) > 0
