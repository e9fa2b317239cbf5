"""The gradient noise scale: the batch size beyond which more images help little.

The simple noise scale of McCandlish et al. (arXiv 1812.06162) is tr(Σ) / |G|², with G the gradient over all data and Σ
the covariance of one image's gradient. Two batches of n images drawn one after the other, at weights that hardly
differ, have gradients g and h with

    E[|g|²] = |G|² + tr(Σ)/n        E[g·h] = |G|²        so        tr(Σ)/|G|² = n (E[|g|²] − E[g·h]) / E[g·h]

Means are over the pairs since the last log step.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class GradientNoise:
    """Measures the noise scale of the gradients of successive steps.

    It keeps the gradient of the last step, which takes as much memory as the trained weights, and sums of products.

    Args:
        batch: images in the global batch.
        sum_ranks: adds up a tensor over the ranks that hold parts of the gradient; None: this rank holds all of it.
    """

    def __init__(self, batch: int, sum_ranks: Callable[[Tensor], Tensor] | None = None) -> None:
        self.batch, self.sum_ranks = batch, sum_ranks
        self._last: list[Tensor] = []
        self._fine: Tensor | None = None
        self._sums: Tensor | None = None

    @torch.no_grad()
    def note(self, gradients: list[Tensor], fine: Tensor) -> None:
        """Take one step's gradients into account, before clipping and always in the same order.

        They are all gradients, or this rank's parts of them. `fine` is a 0-dim bool tensor: whether all are finite.
        Does not wait for the device.
        """
        if self._fine is not None:
            self._add(self._products(gradients), fine & self._fine)
            for last, gradient in zip(self._last, gradients, strict=True):
                last.copy_(gradient)
        else:
            self._last = [gradient.clone() for gradient in gradients]
        self._fine = fine

    def take(self, like: Tensor) -> Tensor:
        """Return the noise scale in images over the pairs since the last call, a 0-dim tensor on the device of `like`.

        It is NaN without any pair, and can be negative when the batches are too noisy for G to be seen. Every rank
        calls it.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=like.device) if self._sums is None else self._sums
        self._sums = None
        squares, dots = sums.unbind()
        return self.batch * (squares - dots) / dots

    def _products(self, gradients: list[Tensor]) -> Tensor:
        """((|g|² + |h|²) / 2, g·h) of this step and the last, over all ranks."""
        pairs = list(zip(gradients, self._last, strict=True))
        device = gradients[0].device if gradients else torch.device("cpu")
        zero = torch.zeros((), dtype=torch.float64, device=device)
        squares = sum((((g.double().square() + h.double().square()) / 2).sum() for g, h in pairs), start=zero)
        dots = sum(((g.double() * h.double()).sum() for g, h in pairs), start=zero)
        products = torch.stack([squares, dots])
        return products if self.sum_ranks is None else self.sum_ranks(products)

    def _add(self, products: Tensor, fine: Tensor) -> None:
        counted = torch.where(fine, products, 0.0)
        self._sums = counted if self._sums is None else self._sums + counted
