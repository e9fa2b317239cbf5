"""A copy of the buffers that forward changes, so that a skipped step can leave them as they were."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class KeptBuffers:
    """A copy of batch norm's running statistics and the prototypes of a model, in one tensor for each dtype.

    The model's buffers must keep their memory, as they do under in-place updates and `load_state_dict`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.views: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            self.views.setdefault(buffer.dtype, []).append(buffer.view(-1))
        self.kept: dict[torch.dtype, Tensor] = {}

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the model's buffers, as they are now, on the device; `restore_unless` may put them back."""
        self.kept = self.copy()

    @torch.no_grad()
    def copy(self) -> dict[torch.dtype, Tensor]:
        """Return a copy of the model's buffers as they are now, for `put`."""
        return {dtype: torch.cat(views) for dtype, views in self.views.items()}

    @torch.no_grad()
    def put(self, copy: Mapping[torch.dtype, Tensor]) -> None:
        """Put back what `copy` returned."""
        for dtype, views in self.views.items():
            torch._foreach_copy_(views, list(copy[dtype].split([view.numel() for view in views])))

    def restore(self) -> None:
        """Put back what `remember` copied."""
        self.put(self.kept)

    @torch.no_grad()
    def restore_unless(self, applied: Tensor) -> None:
        """Put back what `remember` copied where `applied`, a 0-dim tensor, is 0; decided on the device."""
        fine = applied > 0
        self.put({dtype: torch.where(fine, now, self.kept[dtype]) for dtype, now in self.copy().items()})
