"""The interface between the loader and a decoder: encoded photos and view parameters in, batches of pixels out.

`dali_pipeline` and `torch_pipeline` implement it, and `open_pipeline` chooses. Requests are submitted ahead of time and
their results come out in the same order.
"""

from collections.abc import Mapping, MutableSequence, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fra_dist.data.decoding.images import PhotoHeader
from fra_dist.data.order.views import ViewParams


class Request(NamedTuple):
    """B encoded photos, what their headers say, and how each view of them is augmented."""

    images: MutableSequence[bytes]
    """The encoded photos, as `images.complete_bytes` gives them.

    A pipeline may replace a photo by another encoding of it.
    """
    heads: Sequence[PhotoHeader]
    """Parsed header of each photo."""
    params: tuple[ViewParams, ...]
    """Augmentation parameters of each view, of B photos each."""


class ViewForm(NamedTuple):
    """How a step wants its views. Only a GPU writes other forms than this one, as it writes the batch anyway."""

    dtype: torch.dtype = torch.float32
    """The dtype of the pixels."""
    channels_last: bool = False
    """Whether the three channels of a pixel are neighbours in memory."""


HOST_FORM = ViewForm()
"""The form of views on a CPU."""


class UndecodableError(Exception):
    """Some photos of a request cannot be decoded.

    reasons: why, in a few words, by position of the photo in the request.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} photos cannot be decoded")
        self.reasons = reasons


class Pipeline(Protocol):
    """Decodes and augments batches of photos. An instance belongs to one thread."""

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The stream on which views are made: they are ready when what it holds at their return is done; None: at
        once."""
        ...

    def submit(self, request: Request) -> None:
        """Start to decode and augment a request's photos in the background, and return at once."""
        ...

    def collect(self) -> tuple[Tensor, ...]:
        """The views of the oldest request not collected yet, each (B, 3, S, S), normalised, on the device; in float32
        from a CPU, in the form that the pipeline was opened for from a GPU.

        Raises UndecodableError, after which the next `collect` belongs to the next request.
        """
        ...

    def redo(self, request: Request) -> tuple[Tensor, ...]:
        """Process a request at once, without losing those under way. Raises UndecodableError."""
        ...

    def close(self) -> None:
        """Stop the threads and release the memory; the pipeline cannot be used afterwards."""
        ...
