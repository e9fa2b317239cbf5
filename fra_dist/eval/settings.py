"""Settings of evaluation tasks, from the command line or a suite file; all of them are written into the results."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fra_dist.config.section import Count, Positive, Seed, Whole
from fra_dist.errors import ConfigError

TASKS = ("expression", "attributes", "alignment", "verification", "regions", "consistency")
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
"""Of getting regions; `tasks/regions.py` says what each is."""
WAYS: tuple[Way, ...] = get_args(Way)


class SettingsSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TuneSettings(SettingsSection):
    """Fine-tuning: AdamW, linear warm-up, cosine; the epoch with the best validation score is kept."""

    epochs: Count = 100
    batch: Count = 256
    lr: Positive = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_epochs: Whole = 5
    patience: Count | None = None
    """Stop after this many epochs without a better validation score; null: never."""


class Settings(SettingsSection):
    seed: Seed = 0
    labels: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (1, 10, 100)
    """Percent of the training and validation labels used."""
    draws: Count = 3
    """Of the labels, below 100 %."""
    modes: tuple[Literal["linear", "knn", "finetune"], ...] = ("linear", "knn")
    reader: Literal["logistic", "ridge"] = "logistic"
    """The linear reader of expressions and attributes: L-BFGS or the closed form."""
    loss: Literal["l1", "smooth_l1", "wing", "star"] = "star"
    """Of the fine-tuned landmark head."""
    norm: Literal["auto", "inter_ocular", "inter_pupil", "diagonal"] = "auto"
    """Of the alignment error that readers are chosen by; auto: the first that the landmarks allow."""
    embedding: Literal["pooled", "projected"] = "pooled"
    regions: Annotated[int, Field(ge=2, le=2**31 - 1)] = 8
    """Clusters of the k-means baselines, when the network has no heatmaps to count."""
    ways: tuple[Way, ...] = WAYS
    """Of getting regions, those that `regions` and `consistency` measure, where a network has them."""
    views: tuple[Literal["crops", "polygons"], ...] = ("crops", "polygons")
    """What `regions` is measured on beside whole photos and masks: random crops, and polygons drawn from landmarks."""
    bootstrap: Whole = 1000
    """Draws of each interval; 0: none is given."""
    limit: Count | None = None
    """At most this many faces of each part, spread evenly."""
    tune: TuneSettings = TuneSettings()


class TaskEntry(SettingsSection):
    """One line of a suite."""

    task: Literal["expression", "attributes", "alignment", "verification", "regions", "consistency"]
    dataset: str
    data: str
    name: str | None = None
    """Of the result's folder; by default task-dataset."""
    settings: Settings = Settings()


class Suite(SettingsSection):
    """`data` is relative to the suite's own folder."""

    checkpoint: str | None = None
    image_size: Count | None = None
    tasks: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]


def load_suite(path: str | Path) -> Suite:
    """Raises ConfigError with one line for what is wrong first."""
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
    """Validate values. Raises ConfigError."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{where}: {place}: {first['msg']}") from None
