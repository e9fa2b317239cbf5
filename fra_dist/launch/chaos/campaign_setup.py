"""What all trainings of a campaign share: configuration, shards, how long things take, and which photos get damaged."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fra_dist.config import Config
from fra_dist.data.loading.run_plan import make_plan
from fra_dist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.launch.chaos.fault_draws import Length
from fra_dist.launch.trainer_command import absolute

_DAMAGED = 3
_MOST = 1 << 30
AHEAD = 8
"""Steps by which a training may read ahead of the step that it trains on."""


@dataclass
class CampaignSetup:
    """What the trainings of a campaign have in common."""

    config: Config
    """The configuration of every training; only output and shards differ."""
    ranks: int
    """The number of ranks of each training."""
    length: Length
    """How many steps each training has, and how many between checkpoints."""
    manifest: Manifest
    """The data set that the trainings read."""
    small_disks: bool
    """Whether small disks can be mounted on this machine."""
    fault_layer: Path | None = None
    """The library that lets single calls to the disk fail; None where it could not be built."""
    step_seconds: float = 0.05
    """Seconds that a step took in the undisturbed training."""
    start_seconds: float = 5.0
    """Seconds from the start of the undisturbed training to its first step."""
    run_bytes: int = 0
    """Size in bytes of the run folder at the end of the undisturbed training."""
    first_use: dict[int, int] = field(default_factory=dict)
    """For each sample, the step (from 1) that reads it first: {sample: step}."""

    def damaged(self) -> list[int]:
        """Choose the samples to damage, the same for every fault: none is read before two thirds of the training.

        The list may be empty.
        """
        late = [s for s, step in self.first_use.items() if self.length.steps * 2 // 3 <= step < self.length.steps - 1]
        return sorted(random.Random(self.config.seed).sample(late, min(_DAMAGED, len(late))))

    def late_shards(self, step: int) -> list[int]:
        """List the shards that no batch needs for a while after `step`, but some later batch does."""
        first = {number: self.length.steps for number in range(len(self.manifest.shards))}
        for sample, use in self.first_use.items():
            number = int(self.manifest.locate([sample])[0][0])
            first[number] = min(first[number], use)
        return [number for number, use in first.items() if step + AHEAD < use < self.length.steps]

    def copy_shards(self, target: Path) -> Config:
        """Copy the data set into the folder `target` and return the configuration that reads the copy."""
        source = self.manifest.local_folder
        for name in [MANIFEST, *(n for shard in self.manifest.shards for n in (shard.name, shard.index))]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
        return self.config.model_copy(update={"data": self.config.data.model_copy(update={"shards": str(target)})})


def prepare_setup(config: Config, length: Length, ranks: int, small_disks: bool) -> CampaignSetup:
    """Look at the data set of a campaign and prepare what its trainings share.

    small_disks: whether small disks can be mounted.

    Raises ConfigError or DataError for what no training could use, LaunchError for shards too large to be copied.
    """
    if not config.data.shards:
        raise ConfigError("data.shards is empty: give a small data set, or --faces")
    manifest = load_manifest(config.data.shards)
    size = sum(shard.bytes for shard in manifest.shards)
    if size > _MOST and not isinstance(manifest.folder, RemoteFolder):
        raise LaunchError(
            f"{manifest.folder} has {size / 1e9:.1f} GB, and faults are put into copies: give a set of 1 GB at most"
        )
    plan = make_plan(config, manifest)
    first_use: dict[int, int] = {}
    for step in range(length.steps):
        for sample in plan.batch(step).ids.tolist():
            first_use.setdefault(sample, step + 1)
    return CampaignSetup(config, ranks, length, manifest, small_disks, first_use=first_use)


def campaign_config(config: Config, length: Length) -> Config:
    """Return the configuration of every training: rows and samples of every step, and no pictures."""
    changed = {
        "optim": config.optim.model_copy(update={"warmup_steps": length.steps // 4}),
        "train": config.train.model_copy(update={"steps": length.steps, "watchdog_seconds": 10.0}),
        "checkpoint": config.checkpoint.model_copy(
            update={"every_steps": length.save_every, "keep_last": 3, "keep_every": 0, "keep_best": None}
        ),
        "guard": config.guard.model_copy(update={"nonfinite": "retry"}),
        "log": config.log.model_copy(
            update={"every_steps": 1, "pictures": False, "tensorboard": False, "samples": True}
        ),
    }
    return absolute(config).model_copy(update=changed)


def damage_photos(folder: Path, manifest: Manifest, samples: Sequence[int], draw: random.Random) -> None:
    """Overwrite bytes of the photos of `samples` in place, in the copy of the shards in `folder`."""
    for sample in samples:
        number, row = manifest.row(sample)
        with (folder / manifest.shards[number].name).open("r+b") as stream:
            length = min(64, int(row["length"]))
            place = int(row["offset"]) + draw.randrange(int(row["length"]) - length + 1)
            stream.seek(place)
            spoilt = np.frombuffer(stream.read(length), np.uint8) ^ draw.randrange(1, 256)
            stream.seek(place)
            stream.write(spoilt.tobytes())
