"""AdamW whose first step does not import PyTorch's compiler."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

_step = inspect.unwrap(torch.optim.Adam.step)
"""The arithmetic alone. Around it torch tells its compiler about the step, for which it imports all of it: 3 to 4 s of
every start. Nothing compiles a step here."""


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` with the same arguments, state and arithmetic."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """Update the parameters once; returns what the closure gives, which is called first, or None."""
        return _step(self, closure)
