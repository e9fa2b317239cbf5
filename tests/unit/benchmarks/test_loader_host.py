"""What the benchmark of the loader's host time counts, and that the chain it compares with still runs."""

import numpy as np
from dali_chain import chain_numbers, define_chain
from loader_host import SIDE, _timed, count, drawn

from fra_dist.config import DataConfig


def test_operators_are_counted_without_a_device() -> None:
    assert count() == {"chain_operators": 578, "resize_operators": 10}


def test_the_chain_runs_on_a_cpu() -> None:
    config = DataConfig(image_size=SIDE, threads=1, decode="once")
    chain, params = define_chain(config, 4, None), drawn(config, 4)
    assert _timed(chain, params, [chain_numbers(p, SIDE) for p in params]) > 0
    assert np.isin(chain_numbers(params[0], SIDE)["kind0"], range(4)).all()
