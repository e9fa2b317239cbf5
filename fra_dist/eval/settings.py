"""Settings of evaluation tasks, from the command line or a suite file; all of them are written into the results."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fra_dist.config.section import Count, Positive, Seed, Whole
from fra_dist.errors import ConfigError

Way = Literal[
    "heatmaps",
    "clusters",
    "random_clusters",
    "random_prototypes",
    "position",
    "position_in_parts",
    "ceiling",
    "face_frame",
    "probe",
]
"""A way of dividing a face into regions; the docstring of `tasks/regions.py` describes each."""
WAYS: tuple[Way, ...] = get_args(Way)
"""All ways, in the order of the results."""


class SettingsSection(BaseModel):
    """A group of settings. It cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TuneSettings(SettingsSection):
    """Fine-tuning of the whole network on a task's labels.

    AdamW with linear warm-up and a cosine schedule; the epoch with the best validation score is kept.
    """

    epochs: Count = 100
    """Largest number of passes over the training faces."""
    batch: Count = 256
    """Faces in a step."""
    lr: Positive = 2e-4
    """Learning rate after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decoupled weight decay of AdamW."""
    warmup_epochs: Whole = 5
    """Epochs in which the learning rate rises from 0."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation score; null: never."""


class Settings(SettingsSection):
    """Settings of one evaluation task. Every task takes all of them and reads those that concern it."""

    seed: Seed = 0
    """Of every draw: labels, k-means, pairs, bootstrap."""
    labels: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (1, 10, 100)
    """Shares of the training and validation labels to measure with, in percent."""
    draws: Count = 3
    """Random subsets of the labels that are measured at each share below 100 %."""
    modes: tuple[Literal["linear", "knn", "finetune"], ...] = ("linear", "knn")
    """Readers: a linear one or nearest neighbours on frozen features, or fine-tuning the network."""
    reader: Literal["logistic", "ridge"] = "logistic"
    """The linear reader of expressions and attributes: logistic regression (L-BFGS) or ridge (closed form)."""
    loss: Literal["l1", "smooth_l1", "wing", "star"] = "star"
    """Loss of the fine-tuned landmark head."""
    norm: Literal["auto", "inter_ocular", "inter_pupil", "diagonal"] = "auto"
    """Length that divides the landmark error by which readers are chosen; auto: the first that the landmarks allow."""
    embedding: Literal["pooled", "projected"] = "pooled"
    """Embedding of verification: the pooled map of the backbone, or its projection."""
    regions: Annotated[int, Field(ge=2, le=2**31 - 1)] = 8
    """Clusters of the k-means baselines, when the network has no heatmaps to count."""
    ways: tuple[Way, ...] = WAYS
    """Ways of getting regions that `regions` and `consistency` measure, where a network has them."""
    views: tuple[Literal["crops", "polygons"], ...] = ("crops", "polygons")
    """Views that `regions` is measured on beside whole photos and masks: random crops, polygons of landmarks."""
    bootstrap: Whole = 1000
    """Bootstrap draws of each confidence interval; 0: no intervals."""
    limit: Count | None = None
    """Largest number of faces of each part, taken evenly spaced; null: all."""
    tune: TuneSettings = TuneSettings()
    """Settings of `modes: finetune`."""


class TaskEntry(SettingsSection):
    """One task of a suite file: what to measure, on which data, with which settings."""

    task: Literal["expression", "attributes", "alignment", "verification", "regions", "consistency"]
    """What to measure."""
    dataset: str
    """Layout of the data, as `fra-dist eval --dataset` names it."""
    data: str
    """Folder of the data, relative to the suite file."""
    name: str | None = None
    """Name of the result's folder; null: TASK-DATASET."""
    settings: Settings = Settings()
    """Settings of this task."""


class Suite(SettingsSection):
    """The contents of a suite file: tasks that one command runs one after another on one network."""

    checkpoint: str | None = None
    """Network to measure, where the command line names none."""
    image_size: Count | None = None
    """Side of the faces in pixels; null: that of the network's training."""
    tasks: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]
    """The tasks, in the order in which they run."""


def load_suite(path: str | Path) -> Suite:
    """Read a suite file (YAML). Paths in `data` become absolute, relative to the folder of the file.

    Raises ConfigError, with one line for the first thing that is wrong, when the file cannot be read, has an unknown
    key or a value out of range, or gives two tasks the same name.
    """
    place = Path(path)
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise ConfigError(f"suite {path} cannot be read: {why}") from None
    suite = checked(Suite, found, f"suite {path}")
    names = [entry.name or f"{entry.task}-{entry.dataset}" for entry in suite.tasks]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"suite {path}: two tasks are called {twice[0]!r}: give one of them a name")
    base = place.resolve().parent
    entries = tuple(entry.model_copy(update={"data": str(base / entry.data)}) for entry in suite.tasks)
    return suite.model_copy(update={"tasks": entries})


def checked(model: type[Any], values: Any, where: str) -> Any:
    """Return `values` as an instance of the pydantic class `model`.

    where: how an error message names the origin of the values. Raises ConfigError with one line for the first value
    that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, 1)
            raise ConfigError(
                f"{where}: unknown setting {place}{f' (did you mean {near[0]}?)' if near else ''}"
            ) from None
        raise ConfigError(f"{where}: {place}: {first['msg']}") from None
