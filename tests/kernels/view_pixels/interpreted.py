"""Run by the tests in a process of its own; see `interpreting.py`."""

import os

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.data.decoding import pixels
from fra_dist.data.order.views import ViewParams
from fra_dist.kernels import force
from fra_dist.kernels.view_pixels import launch, view_pixels
from fra_dist.kernels.view_pixels import op as operators
from tests.kernels.interpreting import main
from tests.kernels.view_pixels.checks import CASES, HALVES, IMAGENET, ORDERS, Case, check, on_host
from tests.kernels.view_pixels.mutants import MUTANTS


@st.composite
def views(draw: st.DrawFn) -> tuple[int, ViewParams]:
    """The side of some views and how they are augmented, over the whole range that the configuration allows."""
    n, count = draw(st.integers(1, 24)), draw(st.integers(1, 3))

    def some(strategy: st.SearchStrategy) -> np.ndarray:
        return np.array(draw(st.lists(strategy, min_size=count, max_size=count)))

    def factors() -> np.ndarray:
        return some(st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0, 2))

    return n, ViewParams(
        box=np.zeros((count, 4), np.int32),
        flip=some(st.booleans()),
        order=ORDERS[some(st.integers(0, 23))],
        brightness=factors(),
        contrast=factors(),
        saturation=factors(),
        hue=some(st.sampled_from([0.0, -0.5, 0.5]) | st.floats(-0.5, 0.5)),
        grey=some(st.booleans()),
        sigma=some(st.sampled_from([0.0, 1e-3, 50.0]) | st.floats(0.1, 5)),
        solarise=some(st.integers(0, 256)).astype(np.int16),
    )


@settings(max_examples=60, deadline=None, database=None, derandomize="CI" in os.environ)
@given(views(), st.integers(0, 2**32 - 1), st.sampled_from([IMAGENET, HALVES]), st.booleans())
def check_any_arguments(view: tuple[int, ViewParams], seed: int, normalise: tuple, channels_last: bool) -> None:
    n, params = view
    images = np.random.default_rng(seed).integers(0, 256, (len(params), n, n, 3), dtype=np.uint8)
    numbers = pixels.pack(params, n, *normalise)
    wanted = on_host(images, numbers)
    for path in ("triton", "reference"):
        with force(path):
            found = view_pixels(torch.from_numpy(images), torch.from_numpy(numbers), torch.float32, channels_last)
        assert torch.equal(found, wanted), path


def _small() -> tuple[torch.Tensor, torch.Tensor]:
    case = Case(12)
    return torch.from_numpy(case.images()), torch.from_numpy(case.numbers())


def check_operators() -> None:
    for channels_last in (True, False):
        torch.library.opcheck(operators.finish.custom, (*_small(), torch.bfloat16, channels_last))


def check_compiled() -> None:
    compiled = torch.compile(view_pixels, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*_small()), view_pixels(*_small()))


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    others = {"any arguments": check_any_arguments, "operators": check_operators, "torch.compile": check_compiled}
    main(cases, others, launch, MUTANTS)
