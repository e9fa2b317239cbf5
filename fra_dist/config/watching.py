"""What a run says of itself while it goes on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fra_dist.config.section import Count, Positive, Section, Share, Whole


class ProbeSet(Section):
    """Labelled faces that no training photo shows, for scores while a run goes on."""

    data: str
    """Its folder."""
    dataset: str = "shards"
    """The layout, as `fra-dist eval --dataset` names it; shards: labelled shards."""
    tasks: tuple[Literal["expression", "attributes", "alignment", "regions"], ...] = ()
    """Empty: all that its labels allow."""
    name: str = ""
    """In the names of the scores; empty: that of the folder."""

    @property
    def title(self) -> str:
        return self.name or self.data.rstrip("/").rpartition("/")[2]


class ProbeConfig(Section):
    """Scores of the frozen online network, measured between steps on rank 0; see docs/probes.md."""

    every_steps: Whole = 0
    """Also before the first step and after the last one; 0: never."""
    sets: tuple[ProbeSet, ...] = ()
    images: Annotated[int, Field(ge=20, le=2**31 - 1)] = 600
    """Faces of a set at most: 60 % to fit, 15 % to choose, 25 % to score."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 60
    """That the run may wait for the scores of one step; what is not measured by then is left out."""

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
    """Signs of collapse, looked for at log steps. Each is told once, and again only after it was over. Null: not
    looked for."""

    stop: bool = False
    """End the run at an alarm."""
    after_steps: Whole = 500
    """Nothing is judged before: the regions of a young run are alike."""
    patience: Count = 5
    """Log steps in a row that show a sign."""
    spread: Positive | None = 0.1
    """embedding/spread below this."""
    rank: Positive | None = 1.2
    """embedding/rank below this."""
    dead_regions: Share | None = 0.5
    """More than this part of the regions hold less than 1 % of the pixels each."""
    overlap: Share | None = 0.95
    """regions/overlap above this."""
    query_cosine: Share | None = 0.99
    """queries/cosine above this."""


class LogConfig(Section):
    every_steps: Count = 10
    heatmaps_every: Whole = 500
    """Steps between heatmap pictures; 0: only at the end."""
    heatmap_images: Annotated[int, Field(ge=1, le=1024)] = 8
    pictures: bool = True
    """Draw heatmaps and curves."""
    tensorboard: bool = True
    samples: bool = False
    """Also write which samples each rank reads at every step."""
    gradient_noise: bool = False
    """Also estimate the gradient noise scale; keeps a second copy of the gradient."""
    straggler_factor: Annotated[float, Field(ge=1.0)] = 1.5
    """A rank is named that takes so many times as long as the others, for its data or its arithmetic."""
