"""What is looked at before a job is queued: everything that would end it at its start, hours later."""

import re
from collections.abc import Sequence

from fra_dist.config import Config
from fra_dist.data.making.photo_sets import count_photos
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.data.stores.remote_folder import StoreOptions
from fra_dist.errors import LaunchError
from fra_dist.formats import plural
from fra_dist.machine_memory import memory_limit
from fra_dist.train.checkpoints.best_metric import refuse_unknown_metric
from fra_dist.train.inputs.missing import refuse_missing_inputs
from fra_dist.train.sizes import Sizes, derive_sizes

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "": 2**20}


def check_run(config: Config, worlds: Sequence[int]) -> Sizes:
    """Return the sizes of the run at the one of `worlds`, the numbers of ranks it may have, that needs most memory.

    Raises DataError when shards, or the photos of data.photos, are missing or damaged, CheckpointError when the weights
    of model.init are not there, and ConfigError when the batch cannot be divided, the set is smaller than a batch,
    checkpoint.keep_best names no metric, or the warm-up is longer than the run: what `fra-dist plan` refuses.
    """
    refuse_unknown_metric(config)
    refuse_missing_inputs(config)
    if config.data.photos:
        total = count_photos(config.data.photos)
    else:
        total = load_manifest(config.data.shards, options=StoreOptions.of(config.data)).total
    found = [derive_sizes(config, total, world) for world in sorted(worlds)]
    return max(found, key=lambda sizes: sizes.micro_batch)  # of equal ones the fewest ranks: ZeRO shares out least


def check_memory(config: Config, sizes: Sizes, limit: float | None, gpu: bool, where: str) -> str:
    """Say in a line what a rank needs, measured with 2 images on this machine; raises ConfigError if it is too much.

    limit: bytes for one rank; without it nothing is measured, and the line says how to have it checked.
    """
    if limit is None:
        return "not checked whether a rank fits its GPU: --gpu-memory GB says how much that has"
    from fra_dist.train.dry_run import measured_need
    from fra_dist.train.memory_need import check_fits

    world = sizes.global_batch // sizes.per_rank
    need = measured_need(config, sizes.micro_batch, world, gpu)
    check_fits(config, world, need, limit, where)
    return f"a rank needs about {need.total / 2**30:,.1f} of {limit / 2**30:,.1f} GiB"


def memory_here(ranks: int) -> tuple[float, bool, str]:
    """The memory of one of `ranks` on this machine: (bytes, whether it is a GPU's, words for an error)."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory), True, "its GPU"
    return memory_limit() / ranks, False, f"its share of this machine, with {plural(ranks, 'rank')},"


def memory_of_text(text: str) -> float:
    """Return the bytes of an amount as SLURM writes it (`64G`, `4096`: MiB). Raises LaunchError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise LaunchError(f"{text!r} is not an amount of memory: write 64G or 4096M")
    return float(match[1]) * _UNITS[match[2]]
