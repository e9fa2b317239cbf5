"""`fra-dist plan CONFIG key=value ... --ranks N`: what a run reads, before it is started anywhere."""

import argparse
import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.errors import ConfigError
from fra_dist.files import exists
from fra_dist.formats import plural, size_text

if TYPE_CHECKING:  # the rest is imported when it is used: help and refusals need none of it
    from fra_dist.config import Config
    from fra_dist.data.order.plan import Plan
    from fra_dist.data.shards.manifest import Manifest
    from fra_dist.train.sizes import Sizes

_STEPS = 32
"""Steps over which the ranks' bytes are compared."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist plan` to its parser."""
    parser.add_argument("config", help="YAML file, or the name of a shipped one, for example vggface2_r50")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="for example data.shards=shards/mine"
    )
    parser.add_argument("--ranks", type=int, default=1, help="processes over all nodes, usually GPUs (default 1)")
    parser.add_argument("--per-node", type=int, help="ranks that share a node and its cache (default: at most 8)")
    parser.add_argument(
        "--rate", type=float, default=1000.0, help="images/s that a rank trains on, for the read rate (default 1000)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Print what the run would read. Raises ConfigError or DataError with the reason when the run could not work."""
    from fra_dist.config import load_config

    config = load_config(args.config, args.overrides)
    if args.ranks < 1 or (args.per_node is not None and args.per_node < 1) or not args.rate > 0:
        raise ConfigError("--ranks, --per-node and --rate must be above 0")
    per_node = min(args.per_node or 8, args.ranks)
    if args.ranks % per_node:
        raise ConfigError(f"--ranks {args.ranks} is not a multiple of --per-node {per_node}")
    from fra_dist.data.loading.run_plan import make_plan
    from fra_dist.data.making.photo_sets import count_photos
    from fra_dist.data.shards.manifest import load_manifest
    from fra_dist.data.stores.remote_folder import StoreOptions
    from fra_dist.train.sizes import derive_sizes

    if config.data.photos and not _made(config):
        sizes = derive_sizes(config, count_photos(config.data.photos), args.ranks)
        facts = photo_facts(config, sizes, args.ranks)
    else:
        manifest = load_manifest(config.data.shards, False, StoreOptions.of(config.data))
        sizes = derive_sizes(config, manifest.total, args.ranks)
        facts = plan_facts(config, manifest, make_plan(config, manifest), sizes, args.ranks, per_node, args.rate)
    if args.json:
        print(json.dumps({**asdict(sizes), "ranks": args.ranks, "facts": dict(facts)}, indent=1))
        return 0
    for title, text in facts:
        print(f"{title:<12} {text}")
    return 0


def _made(config: "Config") -> bool:
    """Whether the shards of `data.photos` are at `data.shards`, where a run keeps them when it is set."""
    from fra_dist.data.shards.manifest import MANIFEST

    return bool(config.data.shards) and exists(Path(config.data.shards) / MANIFEST)


def photo_facts(config: "Config", sizes: "Sizes", ranks: int) -> Iterator[tuple[str, str]]:
    """What is known of a run on photos whose shards are not made yet, each fact as a heading and a sentence."""
    from fra_dist.train.sizes import stored_side

    yield "data", f"{plural(sizes.samples, 'photo')} in {config.data.photos}; the run makes shards of them at its start"
    yield "batch", _batch(sizes, ranks)
    yield "steps", _steps(sizes, sizes.samples / sizes.global_batch)
    make = f"fra-dist shards make {shlex.quote(config.data.photos)} --size {stored_side(config)} --out SHARDS"
    yield "the rest", f"(order, cache, read rate) needs shards: {make}, then data.shards=SHARDS"


def plan_facts(
    config: "Config", manifest: "Manifest", plan: "Plan", sizes: "Sizes", ranks: int, per_node: int, rate: float
) -> Iterator[tuple[str, str]]:
    """Each fact of the plan as a heading and a sentence.

    ranks: how many ranks the run has; per_node: how many of them are on a node; rate: images per second of each rank,
    for the read rate that the disks must give.
    """
    import numpy as np

    from fra_dist.data.order.plan_quality import rank_bytes, shards_of_rank, working_set

    shard_bytes = np.array([shard.bytes for shard in manifest.shards], np.float64)
    total, each = float(shard_bytes.sum()), float(shard_bytes.sum()) / manifest.total
    small, large = int(manifest.sizes.min()), int(manifest.sizes.max())
    held = f"{small:,}" if small == large else f"{small:,} to {large:,}"
    yield (
        "data",
        f"{manifest.total:,} samples, {size_text(total)}, {plural(len(manifest.shards), 'shard')} of {held} samples",
    )
    a_step, a_rank = size_text(each * sizes.global_batch), size_text(each * sizes.per_rank)
    yield "batch", f"{_batch(sizes, ranks)}; {a_step} a step, {a_rank} a rank"
    yield "steps", _steps(sizes, plan.steps_per_epoch)
    yield "last batch", _last_batch(plan)
    yield "order", _order(plan)
    own = f"rank 0 reads {manifest.total // ranks:,} samples of {shards_of_rank(plan, 0, ranks):,} shards in an epoch"
    balance = rank_bytes(plan, shard_bytes, ranks, _STEPS)
    spread = f"{size_text(balance.min())} to {size_text(balance.max())}"
    yield "ranks", f"{own}; over {_STEPS} steps the ranks read {spread} each"
    shards = working_set(plan, range(per_node), ranks)
    need = float(np.sort(shard_bytes)[::-1][:shards].sum())
    node = f"a node of {per_node} rank{'s' if per_node > 1 else ''}"
    yield "cache", f"{node} reads from {shards:,} shards at a time: {size_text(need)}; {_cache(config, need)}"
    rates = f"{size_text(rate * each)}/s a rank and {size_text(rate * each * ranks)}/s in all"
    yield "read rate", f"{rates} at {rate:,.0f} images/s a rank"


def _batch(sizes: "Sizes", ranks: int) -> str:
    each = f"{plural(ranks, 'rank')} x {sizes.accumulation} accumulated x {sizes.micro_batch}"
    return f"{sizes.global_batch:,} images = {each}"


def _steps(sizes: "Sizes", an_epoch: float) -> str:
    epochs = sizes.total_steps * sizes.global_batch / sizes.samples
    return f"{an_epoch:,.2f} an epoch, {sizes.total_steps:,} in all = {epochs:,.2f} epochs"


def _cache(config: "Config", need: float) -> str:
    bound = config.data.cache_gb
    if bound == 0:
        return "data.cache_gb=0: every sample is a request of its own"
    if need <= bound * 2**30:
        return f"fits data.cache_gb={bound:g}, which is used when data.shards is a URL"
    return f"more than data.cache_gb={bound:g}: with a URL, shards would be fetched again and again"


def _order(plan: "Plan") -> str:
    from fra_dist.data.order.plan_quality import measure_shuffle

    found = measure_shuffle(plan)
    return (
        f"a sample moves {found.moved_mean:,.0f} places on average, {found.moved_max:,} at most; "
        f"correlation of neighbours {found.correlation:+.3f}; two samples of a batch share a shard with "
        f"{found.same_shard:.2%}, by chance {found.same_shard_by_chance:.2%}"
    )


def _last_batch(plan: "Plan") -> str:
    rest = plan.samples % plan.global_batch
    if rest == 0:
        return "an epoch is a whole number of batches"
    return (
        f"the end of an epoch cuts a batch: batch {plan.samples // plan.global_batch:,} takes the last {rest:,} "
        f"samples of the first epoch and {plan.global_batch - rest:,} of the second; none is dropped or repeated"
    )
