"""The Triton kernel that finishes views on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from tests.kernels.view_pixels.checks import CASES, Case, check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {
    "224 px": Case(224, count=64, dtype=torch.bfloat16),
    "224 px, planes": Case(224, count=16, channels_last=False),
    "local views": Case(96, count=64),
}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_equals_the_operator_of_the_cpu(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")
