"""What the loader asks of a decoder: encoded photos and view numbers in, batches of pixels out, one a view.

`dali.py` and `cpu.py` are the two kinds. Batches are handed in ahead of time and come out in the same order.
"""

from collections.abc import Mapping, MutableSequence, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fra_dist.config import DataConfig
from fra_dist.data.decoding.images import Head
from fra_dist.data.order.views import ViewParams
from fra_dist.errors import DataError


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


def open_pipeline(config: DataConfig, device: torch.device, batch_size: int) -> Pipeline:
    """The pipeline that `data.pipeline` names; auto takes DALI where it is installed.

    batch_size: of the largest request. Raises DataError when DALI is asked for and cannot be loaded.
    """
    if config.pipeline != "torch":
        try:
            from fra_dist.data.decoding.dali_pipeline import DaliPipeline

            return DaliPipeline(config, device, batch_size)
        except (ImportError, OSError) as error:
            if config.pipeline == "dali":
                raise DataError(f"DALI cannot be loaded ({error}): install it, or set data.pipeline=torch") from None
    from fra_dist.data.decoding.torch_pipeline import TorchPipeline

    return TorchPipeline(config, device)
