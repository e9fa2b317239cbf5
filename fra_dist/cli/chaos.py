"""`fra-dist chaos CONFIG key=value ...`: does a training survive faults, with the same weights?"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.cli.line.json_output import add_json, print_json, told_aside
from fra_dist.errors import LaunchError
from fra_dist.files import exists

if TYPE_CHECKING:
    from fra_dist.config import Config
    from fra_dist.launch.chaos.trial import FaultResult


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist chaos` to its parser."""
    parser.add_argument("config", help="YAML file of a small training; its output folder is not touched")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="for example data.shards=shards/debug"
    )
    parser.add_argument("--faces", action="store_true", help="synthetic faces, made now, instead of data.shards")
    parser.add_argument(
        "--faults", type=int, default=12, metavar="N", help="each in a training of its own (default 12)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the kinds and moments")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="more than one: under torchrun")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="of each training (default 30)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for faults.jsonl and what went wrong; an interrupted campaign resumes"
    )
    parser.add_argument("--only", action="append", metavar="KIND", help="no other kinds, for example 'full disk'")
    add_json(parser, "totals, and a row a fault")
    parser.add_argument("--keep", action="store_true", help="keep all run folders in DIR")


def run(args: argparse.Namespace) -> int:
    """Train under drawn faults and compare with an undisturbed training.

    Exit status 0: every training finished and is identical to the undisturbed one; 1: not; 2: bad input.
    """
    with told_aside(args.json):
        total, rows = _campaign(args)
    if args.json:
        print_json({"totals": total, "faults": [asdict(row) for row in rows]})
    return 0 if total["as_expected"] == args.faults else 1


def _campaign(args: argparse.Namespace) -> "tuple[dict[str, float | int], Sequence[FaultResult]]":
    for name in ("faults", "ranks", "jobs"):
        if getattr(args, name) < 1:
            raise LaunchError(f"--{name} {getattr(args, name)}: give a number above 0")
    from fra_dist.launch.chaos.fault_draws import Length, draw_faults, kinds_for
    from fra_dist.launch.chaos.small_disks import own_mounts

    length = Length(args.steps, max(1, args.steps // 6))
    from fra_dist.config import load_config
    from fra_dist.train.inputs.missing import refuse_missing_inputs

    config = load_config(args.config, args.overrides)
    if not args.faces:
        refuse_missing_inputs(config, resumes=False)  # before torch, whose import takes seconds
    small_disks = own_mounts()  # first: a process with several threads cannot get a user namespace of its own
    from fra_dist.launch.chaos.campaign import Campaign
    from fra_dist.launch.chaos.campaign_setup import campaign_config, prepare_setup
    from fra_dist.launch.chaos.campaign_table import campaign_totals, table
    from fra_dist.train.sizes import share_of_rank

    with _folder(args.out) as folder:
        config = campaign_config(_with_faces(config, folder, args.steps) if args.faces else config, length)
        share_of_rank(config, args.ranks)
        setup = prepare_setup(config, length, args.ranks, small_disks)
        setup.fault_layer = _fault_layer(folder)
        kinds = kinds_for(args.ranks, "://" not in config.data.shards, calls=setup.fault_layer is not None)
        if not setup.damaged():
            _say("corrupt shard is left out: every sample is read early; give more data or fewer steps")
            kinds = tuple(kind for kind in kinds if kind != "corrupt shard")
        if args.only:
            kinds = _chosen(kinds, args.only)
        if not small_disks:
            _say("full disk: no small disk can be mounted here, so the size of files is limited instead")
        about = {"faults": args.faults, "seed": args.seed, "ranks": args.ranks, "steps": args.steps}
        about |= {"kinds": list(kinds), "name": config.name}
        campaign = Campaign(setup, folder, {"campaign": about}, _say, args.keep)
        rows = campaign.run(draw_faults(args.faults, args.seed, length, kinds), args.jobs)
        total = campaign_totals(rows)
        _say(table(rows))
        _say(json.dumps(total))
    return total, rows


def _chosen(kinds: tuple[str, ...], names: list[str]) -> tuple[str, ...]:
    for name in names:
        if name not in kinds:
            raise LaunchError(f"--only {name}: choose from {', '.join(kinds)}")
    return tuple(kind for kind in kinds if kind in names)


def _fault_layer(folder: Path) -> Path | None:
    """The library that lets single calls fail, built in the folder; None, with a line that says why, when it cannot."""
    from fra_dist.launch.chaos.erring_disk import build_layer
    from fra_dist.launch.chaos.fault_draws import CALLS

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return build_layer(folder)
    except LaunchError as error:
        _say(f"{' and '.join(CALLS)} are left out: {error}")
        return None


def _with_faces(config: "Config", folder: Path, steps: int) -> "Config":
    """Small synthetic faces, each read once, in enough shards that some are not read at first."""
    from fra_dist.data.making.shard_making import ShardOptions, make_shards
    from fra_dist.data.shards.manifest import MANIFEST

    shards, count = folder / "faces", steps * config.train.global_batch
    if not exists(shards / MANIFEST):
        make_shards(f"synthetic:{count}@48", shards, ShardOptions(count // 16 + 1, workers=1, overwrite=True))
    data = config.data.model_copy(update={"shards": str(shards), "shuffle_streams": 2, "shuffle_window": 32})
    return config.model_copy(update={"data": data})


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="fra-chaos-") as name:
            yield Path(name)
    else:
        yield out.absolute()


def _say(text: str) -> None:
    print(text, flush=True)
