"""Protocols of a loss's input: the tensors of each view, by name. The dataclasses of `models/outputs.py` fit them.

B images of this rank, Q regions, D width, H×W map.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class View(Protocol):
    """The tensors that one network computed from one view, such as `models.outputs.NetworkOutput`. None without
    regions."""

    @property
    def global_embedding(self) -> Tensor:
        """(B, D) projections of the feature map's mean, one for each image; not normalised."""
        ...

    @property
    def pixels(self) -> Tensor | None:
        """(B, D, H, W) pixel projections, not normalised."""
        ...

    @property
    def local_embedding(self) -> Tensor | None:
        """(B, Q, D) projections of the regions' features."""
        ...

    @property
    def similarity(self) -> Tensor | None:
        """(B, Q, H, W) cosines of the pixels with the prototypes, fp32."""
        ...

    @property
    def prototypes(self) -> Tensor | None:
        """(Q, D) prototypes that the pixels were compared with."""
        ...


class Output(Protocol):
    """Both networks on both views, and the predictions, such as `models.outputs.FRAOutput`."""

    @property
    def online(self) -> Sequence[View]:
        """The online network's tensors of the two views."""
        ...

    @property
    def target(self) -> Sequence[View]:
        """The target network's tensors of the two views, without gradient."""
        ...

    @property
    def local_views(self) -> Sequence[View]:
        """The online network's tensors of each local view."""
        ...

    @property
    def prediction(self) -> Sequence[Tensor]:
        """(B, D) predictions of the global embeddings of each online view: the two whole views, then the local
        views."""
        ...

    @property
    def local_prediction(self) -> Sequence[Tensor] | None:
        """(B, Q, D) predictions of the local embeddings of each online view; None without regions."""
        ...
