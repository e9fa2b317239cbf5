"""A trained network as one object for a notebook: photos of any kind in, embeddings and regions out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fra_dist.api.photos import Photo, listed, name_of, pixels_of
from fra_dist.errors import CheckpointError, ConfigError, DataError
from fra_dist.eval.datasets.common.crop_rules import SMALLEST, CropRule, NoFace, cut_photo, square_of
from fra_dist.eval.features.encoder import BATCH, Encoder
from fra_dist.eval.features.networks import open_encoder
from fra_dist.files import exists
from fra_dist.layouts.reading import first_line
from fra_dist.layouts.weights import SETTINGS, WEIGHTS
from fra_dist.report.overlay import resize
from fra_dist.report.region_sheet import Drawn, draw_sheet

_LEAST_TILE = 16
_MIDDLE = CropRule("middle")


@dataclass(frozen=True)
class FaceOutput:
    """What a network computes from B photos: C backbone channels, H×W map, Q regions, D width. float32 on the model's
    device.

    The regions are None for a network without a region decoder, such as plain BYOL or a backbone alone.
    """

    embedding: Tensor
    """(B, D) the global projection; (B, C), the mean over the map, for a backbone alone."""
    features: Tensor
    """(B, C, H, W) the backbone's map."""
    region_embedding: Tensor | None = None
    """(B, Q, D) the projection of each region's features."""
    heatmaps: Tensor | None = None
    """(B, Q, H, W) soft assignment of each cell of the map to the regions: sums to 1 over Q, up to Q · 1e-7."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosine of each cell with the prototype of each region, which the heatmaps are a softmax of."""


class FaceModel(nn.Module):
    """A network in eval mode together with how its photos are prepared. Made by `load`.

    Each photo is cut to its middle square and scaled to the size that the network was trained at, as `fra-dist embed`
    does it: give crops of faces.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.network: nn.Module = encoder.backbone if encoder.network is None else encoder.network
        self.eval()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **options: Any) -> "FaceModel":
        """The network of a folder that `fra-dist export --format huggingface` wrote, or of such a repository.

        A folder needs no connection. Anything else is the name of a repository (USER/NAME) on the Hugging Face hub,
        which `huggingface_hub` downloads or finds in its cache (also with HF_HUB_OFFLINE=1). options: as for
        `fra_dist.load`. Raises CheckpointError when neither is there, ConfigError without huggingface_hub.

            model = fra_dist.FaceModel.from_pretrained("exports/mine")
        """
        place = Path(os.path.expanduser(name_or_folder))
        return load(place if exists(place) else _downloaded(str(name_or_folder)), **options)

    @property
    def name(self) -> str:
        """Name of the run or file that the weights came from."""
        return self.encoder.name

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the network looks at."""
        return self.encoder.size

    @property
    def regions(self) -> int:
        """How many regions the network finds; 0 without a region decoder."""
        network = self.encoder.network
        return len(network.prototypes) if network is not None and self.encoder.has_regions else 0

    def forward(self, photos: Photo | Sequence[Photo]) -> FaceOutput:
        """Embeddings and regions of one photo or of several, of any sizes and kinds (`Photo`), 64 at a time.

        Photos have 8 bits a channel: floats are rounded to them. For floats as they are, use `network` or an export.
        No gradient flows; for training, use the module `network`, whose input `prepare` gives. Raises DataError for a
        photo that cannot be read, naming it.
        """
        squares = self.squares(photos)
        parts = [self._look(squares[start : start + BATCH]) for start in range(0, len(squares), BATCH)]
        return FaceOutput(
            torch.cat([part.embedding for part in parts]),
            torch.cat([part.features for part in parts]),
            _joined([part.region_embedding for part in parts]),
            _joined([part.heatmaps for part in parts]),
            _joined([part.similarity for part in parts]),
        )

    def prepare(self, photos: Photo | Sequence[Photo]) -> Tensor:
        """Photos as the network takes them: normalised images (B, 3, S, S) on its device.

        Raises DataError as `forward` does.
        """
        return self.encoder.pixels(self.squares(photos))

    def squares(self, photos: Photo | Sequence[Photo]) -> NDArray[np.uint8]:
        """The middle squares of photos, scaled and not normalised, (B, S, S, 3). Raises DataError as `forward` does."""
        several = listed(photos)
        if not several:
            raise DataError("there are no photos: give at least one")
        return np.stack([self._square(photo, number) for number, photo in enumerate(several)])

    def show(self, photos: Photo | Sequence[Photo], tile: int = 224) -> Image.Image:
        """A picture with one row per photo: its regions over it, and the soft map of each region.

        tile: side of each picture in the sheet, in pixels, 16 at the least. Raises CheckpointError for a network
        without regions, ConfigError for a smaller tile, and DataError as `forward` does.
        """
        if tile < _LEAST_TILE:
            raise ConfigError(f"tile={tile}: pictures in the sheet have {_LEAST_TILE} pixels a side at the least")
        if not self.regions:
            raise CheckpointError(f"{self.name} has no region decoder, so there are no regions to show")
        squares = self.squares(photos)
        found: FaceOutput = self(list(squares))
        assert found.similarity is not None
        assert found.heatmaps is not None
        large = np.stack([resize(square, tile) for square in squares])
        return draw_sheet(Drawn(large, found.similarity.cpu(), found.heatmaps.cpu()), self.name, tile)

    @torch.inference_mode()
    def _look(self, squares: NDArray[np.uint8]) -> FaceOutput:
        images, network = self.encoder.pixels(squares), self.encoder.network
        if network is None:
            features = self.encoder.backbone(images).float()
            return FaceOutput(features.mean((2, 3)), features)
        inferred = network.infer(images)
        regions = [
            None if t is None else t.float() for t in (inferred.local_embedding, inferred.heatmap, inferred.similarity)
        ]
        return FaceOutput(inferred.embedding.float(), inferred.features.float(), *regions)

    def _square(self, photo: Photo, number: int) -> NDArray[np.uint8]:
        pixels = pixels_of(photo, number)
        height, width = pixels.shape[:2]
        try:
            return cut_photo(pixels, square_of(_MIDDLE, height, width), self.image_size)
        except NoFace:
            raise DataError(
                f"{name_of(photo, number)} is too small, {width}x{height} pixels: its shorter side has {SMALLEST:g} at "
                "the least"
            ) from None


def load(
    source: str | Path,
    *,
    image_size: int | None = None,
    normalise: str = "auto",
    target: bool = False,
    device: str | torch.device | None = None,
) -> FaceModel:
    """The network of a run, a checkpoint or a file of weights, ready to look at photos.

    source: the name of weights in the package, such as `small-synthetic`; a run folder or a checkpoint in it; a file or
    folder that `fra-dist export` or `fra-dist convert` wrote; a published checkpoint; a ResNet in a file of
    torchvision, timm, MoCo, SwAV, DINO, solo-learn, Lightly or VISSL; `random:resnet50` or `random:RUN` for random
    weights of that architecture.
    image_size, normalise (auto, fra or imagenet): override what the weights say of their photos.
    target: of a run, the target network instead of the online network.
    device: where it runs; by itself the GPU if there is one.

    Raises CheckpointError or ConfigError with one line that says what is wrong. Nothing that is loaded runs code, and
    no network connection is made.

        model = fra_dist.load("runs/mine")
        found = model(["anna.jpg", "ben.jpg"])
        found.embedding.shape, found.heatmaps.shape
        model.show("anna.jpg").save("anna_regions.png")
    """
    encoder = open_encoder(os.path.expanduser(str(source)), image_size, normalise, target)
    where = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return FaceModel(encoder).to(where)
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA in torch
        raise ConfigError(f"device={str(where)!r} cannot be used: {first_line(error)}") from None


def _downloaded(repository: str) -> Path:
    """The folder of a repository of the hub, downloaded or from its cache."""
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise CheckpointError(
            f"no folder at {repository}, and it is no name of a repository (USER/NAME); the weights of the package and "
            "runs are opened by fra_dist.load"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ConfigError(
            f'{repository} is no folder, and downloading it needs huggingface_hub: pip install "fra-dist[hf]"'
        ) from None
    try:
        return Path(snapshot_download(repository, allow_patterns=[SETTINGS, WEIGHTS]))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot get {repository} from the hub: {str(error).splitlines()[0][:200]}") from None


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
