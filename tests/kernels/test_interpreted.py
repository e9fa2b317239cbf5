"""Every Triton kernel in Triton's interpreter against its reference in float64; each folder here is a kernel."""

import functools
from importlib import import_module

import pytest

from tests.kernels.interpreting import HERE, interpret

KERNELS = sorted(path.parent.name for path in HERE.glob("*/interpreted.py"))
CHECKS = {kernel: import_module(f"tests.kernels.{kernel}.checks") for kernel in KERNELS}
EVERY = [(kernel, check) for kernel in KERNELS for check in (*CHECKS[kernel].CASES, *CHECKS[kernel].OTHERS)]


@pytest.fixture(scope="module")
def outcomes():
    return functools.cache(lambda kernel: interpret(f"{kernel}/interpreted.py", "checks"))


@pytest.mark.parametrize(("kernel", "check"), EVERY)
def test_agrees_with_the_reference(outcomes, kernel, check):
    assert outcomes(kernel)[check] is None


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_check_is_listed(outcomes, kernel):
    assert set(outcomes(kernel)) == {check for name, check in EVERY if name == kernel}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_broken_kernel_is_noticed(kernel):
    mutants = import_module(f"tests.kernels.{kernel}.mutants").MUTANTS
    expected = {name: check for name, (_, _, check) in mutants.items()}
    assert interpret(f"{kernel}/interpreted.py", "mutants") == expected
