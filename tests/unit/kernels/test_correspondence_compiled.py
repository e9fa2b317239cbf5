"""The Triton kernels compiled for real GPUs without one: no spills, shared memory, wide loads, tensor cores."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count, narrow

KERNELS = ["forward_kernel", "queries_backward_kernel", "keys_backward_kernel"]
# Capability, dtype, map side, D.
QUICK = (90, "bfloat16", 28, 256)
MORE = [
    (capability, dtype, 28, width)
    for capability in (80, 90)
    for dtype in ("bfloat16", "float32")
    for width in (64, 128, 256)
]
MORE += [(90, "float16", 7, 256), (90, "bfloat16", 7, 240)]
SHAPES = [QUICK, *(pytest.param(shape, marks=pytest.mark.slow) for shape in MORE if shape != QUICK)]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_correspondence.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu(compiled: Any, shape: tuple[Any, ...]) -> None:
    report, capability = compiled(*shape), shape[0]
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, capability)
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]


def test_bf16_vectors_move_wide_and_meet_in_tensor_cores(compiled: Any) -> None:
    for kernel in compiled(*QUICK):
        assert count(kernel, "LDGSTS", "128") + count(kernel, "LDG", "128") > 0, kernel["name"]
        assert count(kernel, "HGMMA", "BF16") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
        if "backward" in kernel["name"]:
            assert count(kernel, "STG", "128") > 0, kernel["name"]
