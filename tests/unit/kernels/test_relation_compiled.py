"""The relation's Triton kernels compiled for real GPUs without one: no spills, and room for them."""

from typing import Any

import pytest
from compiling import assert_fits, compiler, count

KERNELS = ["mass_kernel", "combine_kernel", "shift_kernel", "terms_kernel", "gradient_kernel"]
# Capability, dtype, map side, Q.
QUICK = (90, "float32", 7, 8)
MORE = [(c, t, 14, q) for c in (80, 90) for t, q in (("float32", 8), ("float32", 64), ("bfloat16", 5), ("float32", 1))]
SHAPES = [QUICK, *(pytest.param(shape, marks=pytest.mark.slow) for shape in MORE)]


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Any:
    return compiler("compile_relation.py", request.config.cache.mkdir("triton"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
def test_fits_the_gpu(compiled: Any, shape: tuple[Any, ...]) -> None:
    report = compiled(*shape)
    assert [kernel["name"] for kernel in report] == KERNELS
    for kernel in report:
        assert_fits(kernel, shape[0])
        assert count(kernel, "LDG") > 0, kernel["name"]
