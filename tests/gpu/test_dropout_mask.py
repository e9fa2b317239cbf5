"""The Triton kernel of dropout's masks on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from tests.kernels.dropout_mask.checks import CASES, Case, check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = {"attention": Case(64, (8, 8, 784), views=2), "hidden": Case(64, (8, 2048), views=2)}


@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_equals_the_reference(name: str) -> None:
    check((CASES | LARGE)[name], "cuda")
