"""The self-check that a run begins with, on a real GPU: `pytest -m gpu tests/gpu`."""

import pytest
import torch

from fra_dist.kernels.self_check import check_kernels

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_all_kernels_pass() -> None:
    assert [(f.kernel, f.dtype, f.problem) for f in check_kernels(torch.device("cuda", 0)) if f.problem] == []
