"""What a loss asks of the networks' output: the tensors of each view, by name. `models/outputs.py` has what fits.

B images of this rank, Q regions, D width, H×W map.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class View(Protocol):
    """One network's tensors of one view; see `models.fra.NetworkOutput`."""

    @property
    def global_embedding(self) -> Tensor: ...
    @property
    def pixels(self) -> Tensor | None: ...
    @property
    def local_embedding(self) -> Tensor | None: ...
    @property
    def similarity(self) -> Tensor | None: ...
    @property
    def prototypes(self) -> Tensor | None: ...


class Output(Protocol):
    """See `models.fra.FRAOutput`."""

    @property
    def online(self) -> Sequence[View]: ...
    @property
    def target(self) -> Sequence[View]: ...
    @property
    def local_views(self) -> Sequence[View]: ...
    @property
    def prediction(self) -> Sequence[Tensor]: ...
    @property
    def local_prediction(self) -> Sequence[Tensor] | None: ...
