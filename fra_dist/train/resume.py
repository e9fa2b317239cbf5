"""Which checkpoint a run resumes from, at its start and when it goes back in the middle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist import distributed, files
from fra_dist.config import Config
from fra_dist.data.decoding.pipeline import ViewForm
from fra_dist.data.loading.loader import Loader, make_loader
from fra_dist.data.loading.quarantine import read_quarantine
from fra_dist.data.shards.manifest import Manifest
from fra_dist.distributed import RankContext
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.train.checkpoints.reading import MANIFEST, Checkpoint, find_checkpoint, list_checkpoints, newest_good
from fra_dist.train.checkpoints.writing import set_aside
from fra_dist.train.engines.protocol import precision_of
from fra_dist.train.guards import MEMORY
from fra_dist.train.run_dir.folder import RunFolder, harmful_differences
from fra_dist.train.sizes import Sizes


@dataclass(frozen=True)
class Origin:
    """Where the user wants a run to start: by default from the newest good checkpoint of the run folder."""

    fresh: bool = False
    """Begin at step 0; what the folder holds is moved to RUN/former-N."""
    source: Path | None = None
    """A checkpoint or a run folder to resume from; None: the run folder itself.

    With a checkpoint of this run, the run goes back to its step and later checkpoints are set aside.
    """


NEWEST = Origin()
"""The default: resume from the newest good checkpoint."""


def choose_checkpoint(folder: RunFolder, config: Config, origin: Origin, force: bool = False) -> Checkpoint | None:
    """Choose the checkpoint to resume from; None at the start of a run. Called on rank 0, with the folder claimed.

    Everything in the folder that is of later steps is set aside or dropped, and the history says what was done. Raises
    CheckpointError when there are checkpoints but none can be used, ConfigError when the chosen one has another
    configuration (unless `force`), DiskError or AccessError when one cannot be read: nothing is set aside then.
    """
    if origin.source is not None:
        found: Checkpoint | None = _named(folder, config, origin, force)
        damage: list[str] = []
    else:
        found, damage = newest_good(folder.checkpoints)
        _refuse_to_lose(folder, found, damage)
        _refuse_to_miss(folder, found, origin)
        if found is not None:
            _refuse_other(found, config, force)
    step = found.step if found else 0
    for text in damage:
        folder.note("notice", text=text)
    for path in set_aside(folder.checkpoints, step):
        folder.note("notice", text=f"set aside as {path.name}: the run resumes after step {step}")
    folder.forget_after(step)
    if found is None:
        folder.note("start")
    else:
        own = found.path.parent == folder.checkpoints
        folder.note("resume", step=step, checkpoint=found.path.name if own else str(found.path))
    return found


def newest_before(folder: RunFolder, step: int) -> Checkpoint | None:
    """Return the newest good checkpoint of at most `step` steps; None when there is none. Called on rank 0.

    Later checkpoints are set aside and later rows forgotten. Raises as `choose_checkpoint` does when one cannot be
    read.
    """
    found, damage = newest_good(folder.checkpoints, before=step + 1)
    for text in damage:
        folder.note("notice", text=text)
    if found is not None:
        set_aside(folder.checkpoints, found.step)
        folder.forget_after(found.step)
    return found


def _refuse_to_lose(folder: RunFolder, found: Checkpoint | None, damage: list[str]) -> None:
    if found is None and damage:
        count = len(damage)
        which = "its only checkpoint" if count == 1 else f"none of its {count} checkpoints"
        raise CheckpointError(
            f"{folder.path} cannot resume: {which} can{'not' if count == 1 else ''} be used ({damage[0]}); "
            f"restore one, name another with --from, or begin at step 0 with --fresh"
        )


def _refuse_to_miss(folder: RunFolder, found: Checkpoint | None, origin: Origin) -> None:
    """Refuse where checkpoints were, by the history, and none is left: their disk may not be mounted."""
    if found is None and not origin.fresh and (saved := folder.last_saved()) is not None:
        raise CheckpointError(
            f"{folder.path} cannot resume: step {saved} was saved, but {folder.checkpoints} holds no checkpoint now; "
            f"mount that disk, bring one back, name another with --from, or begin at step 0 with --fresh"
        )


def _named(folder: RunFolder, config: Config, origin: Origin, force: bool) -> Checkpoint:
    assert origin.source is not None
    if files.is_file(origin.source) and not files.exists(origin.source.parent / MANIFEST):
        raise CheckpointError(
            f"--from {origin.source} is a file, not a checkpoint to resume from: model.init={origin.source} starts a "
            "run from weights"
        )
    found = find_checkpoint(origin.source)
    if found.averaged:
        raise CheckpointError(
            f"{found.path} is a mean of checkpoints and has no optimiser state: a run cannot resume from it"
        )
    if found.path.resolve().parent != folder.checkpoints.resolve() and list_checkpoints(folder.checkpoints):
        raise CheckpointError(
            f"{folder.path} has checkpoints of its own, so it cannot resume from {found.path}: "
            f"give a new output=, or --fresh to move them away"
        )
    _refuse_other(found, config, force)
    return found


def _refuse_other(found: Checkpoint, config: Config, force: bool) -> None:
    harmful = harmful_differences(found.config, config)
    if harmful and not force:
        raise ConfigError(
            f"{found.path} was trained with another configuration: {'; '.join(harmful)}. "
            "Give the old values, or --force to resume all the same"
        )


def guard_state(memory: Mapping[str, Any], folder: RunFolder, window: int) -> Mapping[str, Any]:
    """Return the state that the guard resumes with, from the `memory` of a checkpoint.

    A checkpoint from before it was kept there has none: then it is the last `window` losses in the metrics of `folder`.
    Every rank calls it, after rows behind the checkpoint were forgotten.
    """
    known = memory.get(MEMORY)
    if isinstance(known, dict):
        return known
    return {"in_a_row": 0, "jumps_left_out": 0, "losses": distributed.from_main(lambda: folder.losses(window))}


def load_batches(
    config: Config, manifest: Manifest, ctx: RankContext, folder: RunFolder, start: int, sizes: Sizes
) -> Loader:
    """Open the batches of this rank from step `start` on, without reading again the samples that are known to be bad.

    Every rank calls it. All of them use the list that rank 0 reads, however late a shared disk shows it to them.
    """
    bad = distributed.from_main(lambda: [sample.id for sample in read_quarantine(folder.path)])
    form = ViewForm(precision_of(config, ctx.device), config.train.channels_last)
    return make_loader(config, manifest, ctx, start, sizes.total_steps, known_bad=bad, check_files=False, form=form)
