"""What a run reads, and how photos become views."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, NonNegative, Positive, Section, Share, Threads, Triple, Whole


class ViewConfig(Section):
    """How a view is drawn. The defaults are those of view 1."""

    crop_scale: tuple[Share, Share] = (0.2, 1.0)
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    grey: Share = 0.2
    blur: Share = 1.0
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    solarise: Share = 0.0
    solarise_threshold: Annotated[int, Field(ge=0, le=256)] = 128

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
    shards: str = ""
    """Folder that holds `manifest.json` and the tars, or its URL: s3://, gs://, https://, hf://datasets/..."""
    cache: str = ""
    """Folder on a node's own disk for copies of remote shards; empty: $FRA_DIST_CACHE, or ~/.cache/fra_dist/shards."""
    cache_gb: NonNegative = 50
    """GiB that the copies may take; 0: none are kept, every sample is read by a range request."""
    prefetch_shards: Whole | None = None
    """Shards that a rank has copied before it needs them; null: the next one of each stream it reads."""
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    """Attempts after the first for a request to a store, with pauses that grow to 20 s."""
    timeout_seconds: Positive = 30
    """That one request (at most 8 MiB) may take."""
    image_size: Annotated[int, Field(ge=16, le=2048)] = 224
    mean: Triple = (0.5231, 0.4044, 0.3489)
    std: tuple[Positive, Positive, Positive] = (0.2536, 0.2194, 0.2070)
    pipeline: Literal["auto", "dali", "torch"] = "auto"
    decode: Literal["auto", "once", "crops"] = "auto"
    """With DALI: decode a photo once and cut the views from it, or only the region of each view by itself; auto:
    crops on a CPU, once on a GPU."""
    threads: Threads = 2
    prefetch: Threads = 2
    """Batches that the pipeline works on ahead of the one being trained on."""
    shuffle_streams: Count = 32
    """How many places of the data set a global batch is read from; see `data/order/plan.py`."""
    shuffle_window: Whole = 4096
    """Samples that are shuffled together inside a stream; 0: the whole set at once, wherever samples lie."""
    max_bad_share: Share = 0.01
    """The run stops when more than this share of the samples read could not be decoded."""
    view1: ViewConfig = ViewConfig()
    view2: ViewConfig = ViewConfig(blur=0.1, solarise=0.2)
    local_views: Annotated[int, Field(ge=0, le=32)] = 0
    """Small crops beside the two views (multi-crop), which only the online network sees."""
    local_size: Annotated[int, Field(ge=16, le=2048)] = 96
    """Their height and width in pixels."""
    local_view: ViewConfig = ViewConfig(crop_scale=(0.05, 0.2), blur=0.5)
