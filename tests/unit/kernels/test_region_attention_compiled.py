"""The Triton kernels compiled for real GPUs without one: no spills, shared memory, wide loads, tensor cores."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count, narrow

KERNELS = [
    "similarity_kernel",
    "pool_kernel",
    "features_backward_kernel",
    "pixels_backward_kernel",
    "prototypes_backward_kernel",
]
# Capability, dtype, layout, map side, C, D, Q.
QUICK = (90, "bfloat16", "channels_last", 7, 2048, 256, 8)
MORE = [
    (capability, dtype, "channels_last", 7, 2048, 256, regions)
    for capability in (80, 90)
    for dtype in ("bfloat16", "float32")
    for regions in (8, 32, 64)
]
MORE += [(90, "float16", "channels_last", 14, 2048, 256, 8), (90, "bfloat16", "planar", 28, 2040, 240, 64)]
SHAPES = [QUICK, *(pytest.param(shape, marks=pytest.mark.slow) for shape in MORE if shape != QUICK)]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_region_attention.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu(compiled: Any, shape: tuple[Any, ...]) -> None:
    report, capability = compiled(*shape), shape[0]
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, capability)
        if kernel["name"] != "prototypes_backward_kernel":  # it only adds
            assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]


def test_bf16_maps_move_wide_and_meet_in_tensor_cores(compiled: Any) -> None:
    for kernel in compiled(*QUICK)[:4]:
        assert count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert count(kernel, "HGMMA", "BF16") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
        if "backward" in kernel["name"]:
            assert count(kernel, "STG", "128") > 0, kernel["name"]


@pytest.mark.slow
def test_the_search_for_narrow_accesses_finds_them(compiled: Any) -> None:
    """Rows of 49 bf16 numbers, planar, cannot be read 16 bytes at a time."""
    assert narrow(compiled(90, "bfloat16", "planar", 7, 2040, 240, 8)[0]) > 0
