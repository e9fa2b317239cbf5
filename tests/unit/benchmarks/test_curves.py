"""The figures that `precision.py` and `scaling.py` make of losses and times."""

import precision
import pytest
import scaling


def test_formats_and_seeds_apart() -> None:
    runs = {("fp32", 0): [4.0, 2.0], ("bf16", 0): [4.0, 2.2], ("fp32", 1): [4.0, 3.0], ("bf16", 1): [4.0, 2.8]}
    found = precision.compared(runs)
    assert found["formats_apart"] == pytest.approx((2 * 0.04 / 4) ** 0.5)
    assert found["seeds_apart"] == pytest.approx((1 / 2) ** 0.5)
    assert (found["last_fp32"], found["lowest_fp32"], found["highest_fp32"], found["last_bf16"]) == (2.5, 2.0, 3.0, 2.5)


def test_slopes_of_what_grows_as_a_power() -> None:
    values = (8, 16, 64)
    assert scaling.slopes(values, [5.0, 5.0, 5.0]) == pytest.approx([0.0, 0.0])
    assert scaling.slopes(values, [8.0, 16.0, 64.0]) == pytest.approx([1.0, 1.0])
    assert scaling.slopes(values, [1.0, 4.0, 64.0]) == pytest.approx([2.0, 2.0])


def test_sizes_mean_what_they_say() -> None:
    step = scaling.step_of({"regions": 4, "cells": 5 * 5, "images": 2})
    assert step.views[0].shape == (2, 3, 40, 40)
    assert len(step.model.online.prototypes) == 4
    assert step.model.check_image_size(40) == (5, 5)
