"""Arguments of the jitter in `dali_graph`'s chain of operators, which has a fixed order while each sample has its own.

Brightness, contrast and saturation are cheap to have in a graph several times, hue is not, and each sample has the four
in its own order. So the chain has three slots for the cheap operations, then the hue, then three slots again; each of
the three goes to a slot before or after the hue, and the other slots stay empty for that sample.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.order.views import HUE, ViewParams, blur_radius

SLOTS = 6
"""Slots of the chain: three before the hue and three after it."""
EMPTY = HUE
"""The kind of a slot that does nothing."""


def chain_numbers(params: ViewParams, size: int) -> dict[str, NDArray[Any]]:
    """Arguments of the chain's operators by name, each (B,), for views of `size` pixels."""
    kinds, factors = fill_slots(params)
    numbers = {
        "hue": params.hue.astype(np.float32),
        "grey": params.grey.astype(np.int32),
        "sigma": params.sigma.astype(np.float32),
        "window": 2 * blur_radius(params.sigma, size) + 1,
        "solarise": (params.solarise < 256).astype(np.int32),
        "flip": params.flip.astype(np.int32),
    }
    for k in range(SLOTS):
        numbers[f"kind{k}"], numbers[f"factor{k}"] = kinds[:, k], factors[:, k]
    return numbers


def fill_slots(params: ViewParams) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Kinds and factors of the slots, each (B, 6): operations before the hue in slots 0 to 2, later ones in 3 to 5."""
    rows = np.arange(len(params))
    factors = np.stack([params.brightness, params.contrast, params.saturation, np.ones(len(params))], axis=1)
    place = np.argmax(params.order == HUE, axis=1)
    kinds = np.full((len(params), SLOTS), EMPTY, np.int32)
    for k in range(4):
        slot = np.where(k < place, k, k + 2)
        cheap = k != place
        kinds[rows[cheap], slot[cheap]] = params.order[cheap, k]
    chosen = np.take_along_axis(factors, kinds, axis=1)
    return np.where(chosen == 1, EMPTY, kinds).astype(np.int32), chosen.astype(np.float32)
