"""What is examined: taken from a configuration, and passed to the checks as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fra_dist.config import Config
from fra_dist.files import is_folder


@dataclass(frozen=True)
class Subject:
    """What the checks need to know of the run that is planned."""

    run: str = "."
    """The run folder, which need not exist yet."""
    shards: str = ""
    """data.shards of the configuration; empty: no shards are examined."""
    device: str = "auto"
    """train.device: auto, cpu or cuda."""
    backend: str = "deepspeed"
    """train.backend: deepspeed or torch."""
    ranks: int = 2
    """How many local ranks take part in the trial of collectives."""
    quick: bool = False
    """Whether only the checks are wanted that take a moment."""
    photos: str = ""
    """data.photos of the configuration, of which the run makes shards itself; empty: there are none."""

    @classmethod
    def of(cls, config: Config, ranks: int, quick: bool = False) -> "Subject":
        """Return what a configuration says of the machine that it will run on."""
        return cls(
            config.output,
            config.data.shards,
            config.train.device,
            config.train.backend,
            ranks,
            quick,
            config.data.photos,
        )

    def to_json(self) -> str:
        """Return the subject as JSON, which `from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Subject":
        """Return the subject that `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def nearest_folder(self) -> Path:
        """The run folder, or the nearest folder above it that exists: its file system is the one that counts."""
        place = Path(self.run).absolute()
        return next(folder for folder in (place, *place.parents) if is_folder(folder))
