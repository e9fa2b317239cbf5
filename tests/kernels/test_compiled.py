"""Every Triton kernel compiled for real GPUs without one: it spills nothing, fits them, and moves its data wide.

A kernel's `compiled.py` names its shapes and its kernels, and says what its machine code must hold.
"""

from importlib import import_module

import pytest

from tests.kernels.compiling import HERE, assert_fits, compiler, looped_barriers

KERNELS = sorted(path.parent.name for path in HERE.glob("*/compiled.py"))
OF = {kernel: import_module(f"tests.kernels.{kernel}.compiled") for kernel in KERNELS}


NEWER = (100, 120)
"""Compute capabilities for which each kernel's QUICK shape is compiled as well."""
MEMORY_BOUND = ("batch_norm", "dropout_mask", "lars_ema", "pooled_norm", "relation", "residual_norm", "view_pixels")
"""Kernels without matrix products, which must hold the same on newer GPUs; the others only have to fit there."""
LOOPED_BARRIERS = {
    "lars_ema": ("squares_kernel", "step_kernel", "follow_kernel"),
    "relation": ("mass_kernel", "terms_kernel"),
    "view_pixels": ("view_kernel",),
}
"""Kernels that still have barriers in loops without a matrix product, by folder: to shrink, never to grow.

lars_ema changes the layout of a chunk between reading and writing, and adds up the ends of tensors across warps;
relation reduces each block of pixels across warps before it adds it up;
view_pixels brings a tile from the threads that read it to those that write it, once a tile and not once a tap: reads
of bytes and writes of the result have different widths.
"""
SPILLED = {(120, "relation", "terms_kernel"): 8, (120, "decoder_attention", "rows_backward_kernel"): 8}
"""Bytes that kernels still spill, by compute capability, folder and kernel: to shrink, never to grow."""


def shapes():
    for kernel in KERNELS:
        newer = [(capability, *OF[kernel].QUICK[1:]) for capability in NEWER]
        for shape in dict.fromkeys([*OF[kernel].SHAPES, *newer]):
            marks = () if shape == OF[kernel].QUICK else pytest.mark.slow
            yield pytest.param(kernel, shape, id="-".join(map(str, (kernel, *shape))), marks=marks)


@pytest.fixture(scope="module")
def compiled(request):
    return compiler(request.config.cache.mkdir("triton"))


@pytest.mark.parametrize(("kernel", "shape"), list(shapes()))
def test_fits_the_gpu_and_is_what_it_should_be(compiled, kernel, shape):
    report = compiled(kernel, *shape)
    assert [one["name"] for one in report] == OF[kernel].KERNELS
    for one in report:
        spilled = SPILLED.get((shape[0], kernel, one["name"]))
        if spilled is None:
            assert_fits(one, shape[0])
        else:
            assert one["stack"] <= spilled
        assert one["looped_barriers"] == 0 or one["name"] in LOOPED_BARRIERS.get(kernel, ()), one["name"]
    if shape in OF[kernel].SHAPES or kernel in MEMORY_BOUND:
        OF[kernel].inspect(report, shape)


def test_a_kernel_listed_for_its_barriers_still_has_them(compiled):
    for kernel, names in LOOPED_BARRIERS.items():
        report = compiled(kernel, *OF[kernel].QUICK)
        assert {one["name"] for one in report if one["looped_barriers"]} == set(names)


def test_barriers_in_loops_are_found():
    loop = ".L_x_1:\n /*0010*/ {} ;\n /*0020*/ BAR.SYNC.DEFER_BLOCKING 0x0 ;\n /*0030*/ @!P0 BRA `(.L_x_1) ;\n"
    after = " /*0040*/ BAR.SYNC.DEFER_BLOCKING 0x0 ;\n /*0050*/ BRA `(.L_x_2) ;\n.L_x_2:\n"
    assert looped_barriers(loop.format("FADD R1, R2, R3") + after) == 1
    assert looped_barriers(loop.format("HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4]") + after) == 0
    assert looped_barriers(after) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if hasattr(OF[kernel], "NARROW")])
def test_the_search_for_narrow_accesses_finds_them(compiled, kernel):
    """On a shape whose rows cannot be read 16 bytes at a time."""
    place, shape = OF[kernel].NARROW
    assert OF[kernel].narrow(compiled(kernel, *shape)[place]) > 0
