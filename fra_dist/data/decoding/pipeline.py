"""What the loader asks of a decoder: encoded photos and view numbers in, batches of pixels out, one a view.

`dali_pipeline` and `torch_pipeline` are the two kinds, and `open_pipeline` chooses. Batches are handed in ahead of time
and come out in the same order.
"""

from collections.abc import Mapping, MutableSequence, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from fra_dist.data.decoding.images import Head
from fra_dist.data.order.views import ViewParams


class Request(NamedTuple):
    """B encoded photos (as `images.whole` gives them), what their headers say, and what to do to them in each view.

    A pipeline may put another encoding of a photo in its place."""

    images: MutableSequence[bytes]
    heads: Sequence[Head]
    params: tuple[ViewParams, ...]


class UndecodableError(Exception):
    """Some photos of a request cannot be decoded: their positions in it, and why."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} photos cannot be decoded")
        self.reasons = reasons


class Pipeline(Protocol):
    """Belongs to one thread."""

    def submit(self, request: Request) -> None:
        """Begin to work on a request; returns at once."""
        ...

    def collect(self) -> tuple[Tensor, ...]:
        """The views of the oldest request not collected yet, each (B, 3, S, S) float32, normalised, on the device.

        Raises UndecodableError, after which the next collect belongs to the next request.
        """
        ...

    def redo(self, request: Request) -> tuple[Tensor, ...]:
        """Do a request at once, without disturbing those that wait. Raises UndecodableError."""
        ...

    def close(self) -> None: ...
