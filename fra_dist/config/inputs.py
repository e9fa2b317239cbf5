"""What a run reads, and how photos become views."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import (
    Count,
    NonNegative,
    Place,
    Positive,
    Section,
    Share,
    Threads,
    Triple,
    Whole,
)


class ViewConfig(Section):
    """How a view is drawn. The defaults are those of view 1."""

    crop_scale: tuple[Share, Share] = (0.2, 1.0)
    """Smallest and largest area of the random crop, as a share of the photo's area."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest width of the crop divided by its height, before it is scaled to a square."""
    flip: Share = 0.5
    """Probability that the view is mirrored left to right."""
    jitter: Share = 0.8
    """Probability that brightness, contrast, saturation and hue are changed, by the strengths of those four keys."""
    brightness: Share = 0.4
    """Strength b of the brightness change: the factor is drawn evenly from 1 - b to 1 + b."""
    contrast: Share = 0.4
    """Strength c of the contrast change: the factor is drawn evenly from 1 - c to 1 + c."""
    saturation: Share = 0.2
    """Strength s of the saturation change: the factor is drawn evenly from 1 - s to 1 + s."""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Largest shift of the hue in either direction, as a share of the colour circle."""
    grey: Share = 0.2
    """Probability that the view loses its colours."""
    blur: Share = 1.0
    """Probability that the view is blurred by a Gaussian."""
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    solarise: Share = 0.0
    """Probability that bright pixel values are inverted (solarisation)."""
    solarise_threshold: Annotated[int, Field(ge=0, le=256)] = 128
    """Pixel value, of 0 to 255, from which solarisation inverts; 256 inverts none."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [low, high], but {low} > {high}")
        if self.crop_scale[0] <= 0:
            raise ValueError("crop_scale must begin above 0")
        return self


class DataConfig(Section):
    """What a run reads, and how photos become views."""

    shards: Place = ""
    """Folder that holds `manifest.json` and the tars, or its URL: s3://, gs://, https://, hf://datasets/..."""
    photos: Place = ""
    """Folder (or tar) of photos, crops of faces, in place of shards: the run makes them at its start, scaled to a
    shorter side of 256 pixels (8/7 of image_size if that is more), in `photo_shards` beside the run folder, or in
    `shards` if that is given. Photos with the same names and content have their shards there already; a run that
    resumes reads those that it was begun with."""
    cache: Place = ""
    """Folder on a node's own disk for copies of remote shards; empty: $FRA_DIST_CACHE, or ~/.cache/fra_dist/shards."""
    cache_gb: NonNegative = 50
    """Disk space, in GiB, that copies of remote shards may take on a node; 0: none are kept, and every sample is read
    by a range request."""
    prefetch_shards: Whole | None = None
    """Number of remote shards that a rank has copied before it needs them; null: the next one of each stream that it
    reads."""
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    """Number of attempts after the first for a request to a remote store, with pauses that grow to 20 seconds."""
    timeout_seconds: Positive = 30
    """Seconds that one request to a remote store (at most 8 MiB) may take before it is tried again."""
    image_size: Annotated[int, Field(ge=16, le=2048)] = 224
    """Height and width in pixels of each of the two views that the networks see."""
    mean: Triple = (0.5231, 0.4044, 0.3489)
    """Mean of the red, green and blue values on a scale from 0 to 1; subtracted from every view."""
    std: tuple[Positive, Positive, Positive] = (0.2536, 0.2194, 0.2070)
    """Standard deviation of the red, green and blue values on a scale from 0 to 1; every view is divided by it."""
    pipeline: Literal["auto", "dali", "torch"] = "auto"
    """What decodes photos and makes views: dali, or torch (Pillow, torchvision); auto: dali where it is installed."""
    decode: Literal["auto", "once", "crops"] = "auto"
    """With DALI: decode a photo once and cut its views from it, or decode only the region of each view; auto: crops on
    a CPU, once on a GPU."""
    threads: Threads = 2
    """Number of threads of each rank that decode photos and make views."""
    prefetch: Threads = 2
    """Number of batches that the input pipeline works on ahead of the one being trained on."""
    shuffle_streams: Count = 32
    """Number of places of the data set that a global batch is read from; more of them shuffle better and touch more
    shards at a time (`fra-dist plan` shows both)."""
    shuffle_window: Whole = 4096
    """Number of samples that are shuffled together inside a stream; 0: the whole set at once, wherever samples lie."""
    max_bad_share: Share = 0.01
    """The run stops when more than this share of the samples read could not be decoded."""
    view1: ViewConfig = ViewConfig()
    """How the first of the two views is drawn."""
    view2: ViewConfig = ViewConfig(blur=0.1, solarise=0.2)
    """How the second of the two views is drawn; differs from the first in blur and solarise."""
    local_views: Annotated[int, Field(ge=0, le=32)] = 0
    """Number of small crops of each photo beside the two views (multi-crop), which only the online network sees."""
    local_size: Annotated[int, Field(ge=16, le=2048)] = 96
    """Height and width in pixels of the small crops of `local_views`."""
    local_view: ViewConfig = ViewConfig(crop_scale=(0.05, 0.2), blur=0.5)
    """How the small crops of `local_views` are drawn."""
