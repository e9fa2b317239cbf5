"""Dropout's masks on a CPU: one compiled pass over the elements.

The plain path makes a new array for each of some twenty operations, which is a tenth of a small network's step on a
CPU; this takes a twentieth of its time and gives the same bits. Compiled by numba once per machine, then read from its
cache.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from fra_dist.kernels.dropout_mask.reference import call_keys


def _compiled(function: Callable[..., Any]) -> Any:
    """Kept in numba's cache where there is a place for one."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to write to: neither beside this file nor in the home
        return njit(nogil=True)(function)


def on_host(keys: Tensor, shape: torch.Size, call: int, span: int, threshold: int) -> Tensor:
    """The formula of `api` for keys in main memory: (V B, ...) bool, what is kept; threshold is p 2⁵³."""
    own = call_keys(keys, shape[0] // len(keys), call, span).numpy().view(np.uint64)
    keep = np.empty((shape[0], shape[1:].numel()), np.bool_)
    _fill(own, np.uint64(threshold), keep)
    return torch.from_numpy(keep).view(shape)


@_compiled
def _fill(own, threshold, keep):  # type: ignore[no-untyped-def]
    """Fill keep (N, E) from the images' keys (N,), words of 64 bits without sign."""
    for image in range(keep.shape[0]):
        for element in range(keep.shape[1]):
            word = own[image] + np.uint64(element) * np.uint64(0x9E3779B97F4A7C15)
            word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            word ^= word >> np.uint64(31)
            keep[image, element] = (word >> np.uint64(11)) >= threshold
