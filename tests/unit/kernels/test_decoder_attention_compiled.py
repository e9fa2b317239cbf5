"""The decoder's attention kernels compiled for real GPUs without one: no spills, shared memory, tensor cores."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count, narrow

KERNELS = ["pool_kernel", "rows_backward_kernel", "memory_backward_kernel"]
# Capability, dtype, rows, pixels, D, dropout.
QUICK = (90, "bfloat16", 64, 49, 256, 1)
MORE = [
    (80, "bfloat16", 64, 49, 256, 1),
    (80, "float16", 256, 784, 256, 0),
    (90, "bfloat16", 16, 196, 240, 0),
    (80, "float32", 64, 49, 64, 1),
    (90, "float32", 64, 49, 64, 1),
]
SHAPES = [QUICK, *(pytest.param(shape, marks=pytest.mark.slow) for shape in MORE if shape != QUICK)]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_decoder_attention.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu_and_uses_tensor_cores(compiled: Any, shape: tuple[Any, ...]) -> None:
    report = compiled(*shape)
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, shape[0])
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]


def test_bf16_maps_move_wide(compiled: Any) -> None:
    for kernel in compiled(*QUICK):
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert count(kernel, "STG", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
