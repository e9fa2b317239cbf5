"""The settings of evaluation tasks, from the command line or a suite file; everything goes into the results."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fra_dist.config.section import Count, Positive, Seed, Whole
from fra_dist.errors import ConfigError

TASKS = ("expression", "attributes", "alignment", "verification", "regions", "consistency")


class Section(BaseModel):
    """The base of these settings: unknown keys are refused, and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TuneSettings(Section):
    """Settings of fine-tuning: AdamW, linear warm-up, cosine; the epoch with the best validation score is kept."""

    epochs: Count = 100
    """Passes over the training faces."""
    batch: Count = 256
    """Faces in a batch."""
    lr: Positive = 2e-4
    """Largest learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay of AdamW."""
    warmup_epochs: Whole = 5
    """Epochs in which the learning rate rises linearly."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation score; null: never."""


class Settings(Section):
    """Settings of one task; each task uses those that concern it."""

    seed: Seed = 0
    """Seed of everything that is drawn."""
    labels: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (1, 10, 100)
    """Percentages of the training and validation labels that readers are fitted with."""
    draws: Count = 3
    """How many times labels are drawn, below 100 %."""
    modes: tuple[Literal["linear", "knn", "finetune"], ...] = ("linear", "knn")
    """How expressions, attributes and landmarks are read: by linear readers, nearest neighbours, or fine-tuning."""
    reader: Literal["logistic", "ridge"] = "logistic"
    """The linear reader of expressions and attributes: logistic by L-BFGS, or ridge in closed form."""
    loss: Literal["l1", "smooth_l1", "wing", "star"] = "star"
    """Loss of the fine-tuned landmark head."""
    norm: Literal["auto", "inter_ocular", "inter_pupil", "diagonal"] = "auto"
    """Length that normalises the alignment error by which readers are chosen; auto:
    the first that the landmarks allow."""
    embedding: Literal["pooled", "projected"] = "pooled"
    """What faces are verified by: pooled features or the global projection."""
    regions: Annotated[int, Field(ge=2, le=2**31 - 1)] = 8
    """Number of clusters of the k-means baselines, when the network has no heatmaps to count."""
    bootstrap: Whole = 1000
    """Bootstrap draws of each interval; 0: no intervals are given."""
    limit: Count | None = None
    """At most this many faces of each part, spread evenly; null: all."""
    tune: TuneSettings = TuneSettings()
    """Settings of fine-tuning."""


class TaskEntry(Section):
    """One entry of a suite: a task on a data set."""

    task: Literal["expression", "attributes", "alignment", "verification", "regions", "consistency"]
    """Name of the task."""
    dataset: str
    """Name of the data set."""
    data: str
    """Folder of the data set, relative to the suite's own folder."""
    name: str | None = None
    """Name of the result's folder; by default TASK-DATASET."""
    settings: Settings = Settings()
    """Settings of the task."""


class Suite(Section):
    """A suite of tasks, as a YAML file describes it."""

    checkpoint: str | None = None
    """The network under test, unless the command line names one."""
    image_size: Count | None = None
    """Side of the photos in pixels, in place of what the weights say."""
    tasks: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]
    """The tasks, in the order in which they run."""


def load_suite(path: str | Path) -> Suite:
    """Read and check a suite file. Raises ConfigError with one line for what is wrong first."""
    place = Path(path)
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"suite {path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    suite = checked(Suite, found, f"suite {path}")
    names = [entry.name or f"{entry.task}-{entry.dataset}" for entry in suite.tasks]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"suite {path}: two tasks are called {twice[0]!r}: give one of them a name")
    base = place.resolve().parent
    entries = tuple(entry.model_copy(update={"data": str(base / entry.data)}) for entry in suite.tasks)
    return suite.model_copy(update={"tasks": entries})


def checked(model: type[Any], values: Any, where: str) -> Any:
    """The values as a validated `model`. Raises ConfigError that begins with `where`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{where}: {place}: {first['msg']}") from None
