"""A trained network as one object for a notebook: photos of any kind in, embeddings and regions out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from fra_dist.data.decoding.images import BadImage, to_rgb
from fra_dist.data.making.cleaning import decode_verified
from fra_dist.errors import CheckpointError, ConfigError, DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule, NoFace, cut_photo, square_of
from fra_dist.eval.features.encoder import BATCH, Encoder
from fra_dist.eval.features.networks import open_encoder
from fra_dist.files import failure, is_folder
from fra_dist.layouts.weights import SETTINGS, WEIGHTS
from fra_dist.report.overlay import resize
from fra_dist.report.region_sheet import Drawn, draw_sheet

Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A path; a PIL image; an array (H, W) or (H, W, 3); a tensor (H, W) or (3, H, W). Whole numbers count from 0 to 255,
floating-point numbers from 0 to 1."""

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
        place = Path(name_or_folder)
        return load(place if is_folder(place) else _downloaded(str(name_or_folder)), **options)

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
        several = _several(photos)
        if not several:
            raise DataError("there are no photos: give at least one")
        return np.stack([self._square(photo, number) for number, photo in enumerate(several)])

    def show(self, photos: Photo | Sequence[Photo], tile: int = 224) -> Image.Image:
        """A picture with one row per photo: its regions over it, and the soft map of each region.

        tile: side of each picture in the sheet, in pixels. Raises CheckpointError for a network without regions, and
        DataError as `forward` does.
        """
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
        pixels = _pixels(photo, number)
        try:
            return cut_photo(pixels, square_of(_MIDDLE, *pixels.shape[:2]), self.image_size)
        except NoFace:
            raise DataError(f"photo {number} of {pixels.shape[1]}x{pixels.shape[0]} pixels is too small") from None


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

    Raises CheckpointError with one line that says what is wrong. Nothing that is loaded runs code, and no network
    connection is made.

        model = fra_dist.load("runs/mine")
        found = model(["anna.jpg", "ben.jpg"])
        found.embedding.shape, found.heatmaps.shape
        model.show("anna.jpg").save("anna_regions.png")
    """
    encoder = open_encoder(str(source), image_size, normalise, target)
    where = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    return FaceModel(encoder).to(where)


def _downloaded(repository: str) -> Path:
    """The folder of a repository of the hub, downloaded or from its cache."""
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise CheckpointError(f"no folder at {repository}, and it is no name of a repository (USER/NAME)")
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


def _several(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo as a list of one; a batch of pixels as a list of photos."""
    if isinstance(photos, str | Path | Image.Image):
        return [photos]
    if isinstance(photos, np.ndarray | Tensor):
        return list(photos) if photos.ndim == 4 else [photos]
    return list(photos)


def _pixels(photo: Photo, number: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, upright. Raises DataError."""
    if isinstance(photo, str | Path):
        return _read(Path(photo))
    if isinstance(photo, Image.Image):
        return _of_picture(photo, number)
    array = photo.detach().cpu().numpy() if isinstance(photo, Tensor) else photo
    if isinstance(photo, Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise DataError(
            f"photo {number} is {tuple(photo.shape)}: arrays are (H, W) or (H, W, 3), tensors (H, W) or (3, H, W)"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise DataError(f"photo {number} has floating-point pixels outside 0 to 1")
        return np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"photo {number} has pixels of type {array.dtype}: use uint8 from 0 to 255, or floats 0 to 1")
    return np.ascontiguousarray(array)


def _of_picture(photo: Image.Image, number: int) -> NDArray[np.uint8]:
    """As a file of the same picture is read: turned upright by its EXIF data, transparent parts white."""
    try:
        return np.array(to_rgb(ImageOps.exif_transpose(photo)))
    except (OSError, BadImage) as error:
        raise DataError(f"photo {number} is no photo that can be used: {error}") from None


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        pixels = decode_verified(path.read_bytes())
    except OSError as error:
        raise failure(error, f"cannot read {path}", DataError) from None
    except BadImage as error:
        raise DataError(f"{path} is no photo that can be used: {error}") from None
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
