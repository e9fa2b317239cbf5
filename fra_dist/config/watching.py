"""What a run reports about itself during training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, Place, Positive, Section, Share, Whole


class ProbeSet(Section):
    """Labelled faces that no training photo shows, for scores during training."""

    data: Place
    """Folder of the labelled faces."""
    dataset: str = "shards"
    """Layout of the folder, as `fra-dist eval --dataset` names it; shards: labelled shards."""
    tasks: tuple[Literal["expression", "attributes", "alignment", "regions"], ...] = ()
    """What to measure with these faces; empty: all that their labels allow."""
    name: str = ""
    """Name of this set in the names of its scores; empty: that of its folder."""

    @property
    def title(self) -> str:
        """Name of the set in the names of its scores: `name`, or the last part of `data`."""
        return self.name or self.data.rstrip("/").rpartition("/")[2]


class ProbeConfig(Section):
    """Scores of the frozen online network, measured between steps on rank 0; see docs/probes.md."""

    every_steps: Whole = 0
    """Steps between scores, which are also measured before the first step and after the last one; 0: never."""
    sets: tuple[ProbeSet, ...] = ()
    """Sets of labelled faces to measure with; they should not be in the training data."""
    images: Annotated[int, Field(ge=20, le=2**31 - 1)] = 600
    """Number of faces of a set at most: 60 % to fit, 15 % to choose, 25 % to score."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 60
    """Seconds that the run may wait for the scores of one step; what is not measured by then is left out."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        titles = [one.title for one in self.sets]
        if self.every_steps and not titles:
            raise ValueError("probe.every_steps is set, but probe.sets names no faces to measure with")
        for title in titles:
            if not title or titles.count(title) > 1:
                raise ValueError(f"probe.sets: each needs a name of its own, {title!r} is not: set name")
        return self


class AlarmConfig(Section):
    """Signs of collapse, looked for at log steps. Each is reported once, and again only after it was over; a limit of
    null is not looked for."""

    stop: bool = False
    """End the run at an alarm instead of only reporting it."""
    after_steps: Whole = 500
    """Number of steps at the start of a run in which no alarm is raised: the regions of a young run are alike."""
    patience: Count = 5
    """Number of log steps in a row that must show a sign before it is an alarm."""
    spread: Positive | None = 0.1
    """Alarm when embedding/spread (0: all embeddings alike, about 1: healthy) is below this; null: not looked for."""
    rank: Positive | None = 1.2
    """Alarm when embedding/rank, the number of directions that embeddings spread over, is below this; null: not looked
    for."""
    dead_regions: Share | None = 0.5
    """Alarm when more than this share of the regions hold less than 1 % of the pixels each; null: not looked for."""
    overlap: Share | None = 0.95
    """Alarm when regions/overlap, the mean cosine between the maps of different regions, is above this; null: not
    looked for."""
    query_cosine: Share | None = 0.99
    """Alarm when queries/cosine, the mean cosine between the prototypes of different regions, is above this; null: not
    looked for."""


class LogConfig(Section):
    """What is written down during a run, and how often."""

    every_steps: Count = 10
    """Steps between rows of metrics.jsonl."""
    heatmaps_every: Whole = 500
    """Steps between heatmap pictures; 0: only at the end."""
    heatmap_images: Annotated[int, Field(ge=1, le=1024)] = 8
    """Number of photos in a heatmap picture."""
    pictures: bool = True
    """Draw heatmaps and curves."""
    tensorboard: bool = True
    """Write the metrics for TensorBoard as well."""
    csv: bool = False
    """Write the metrics as a table, metrics.csv, at the end of each attempt as well."""
    wandb: Literal["offline", "online"] | None = None
    """Send the metrics to Weights & Biases (needs the extra wandb); offline: keep them in the run folder for
    `wandb sync`."""
    project: str = "fra_dist"
    """Project of Weights & Biases."""
    mlflow: Place = ""
    """Write the metrics to this MLflow store, a folder or the URL of a server (needs the extra mlflow); empty: to
    none."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Serve the newest metrics for Prometheus at this port of rank 0's node; `--metrics-port` sets it."""
    metrics_host: str = "127.0.0.1"
    """Address at which `metrics_port` is opened; 0.0.0.0: reachable from other machines."""
    mfu: bool | None = None
    """Count the FLOP of the model at the start, for speed/tflops and on known GPUs speed/mfu; null: on a GPU."""
    samples: bool = False
    """Also write which samples each rank reads at every step, to samples/rank-R.jsonl."""
    gradient_noise: bool = False
    """Also estimate the gradient noise scale; keeps a second copy of the gradient in memory."""
    straggler_factor: Annotated[float, Field(ge=1.0)] = 1.5
    """A rank is named as slow when its own time, for data and arithmetic, is more than this many times that of the
    others."""
