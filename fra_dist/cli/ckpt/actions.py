"""What the sub-commands of `fra-dist ckpt` do; each prints and returns an exit status."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from fra_dist import files
from fra_dist.cli.line.json_output import print_json
from fra_dist.config import dump_config
from fra_dist.errors import CheckpointError, FraError
from fra_dist.files import exists, is_file
from fra_dist.formats import plural, size_text
from fra_dist.train.checkpoints.compare import Difference, contents_of, differences
from fra_dist.train.checkpoints.compare import average as mean_of
from fra_dist.train.checkpoints.reading import (
    MANIFEST,
    MODEL,
    OPTIMIZER,
    PARTS,
    Checkpoint,
    FormatError,
    find_checkpoint,
    list_checkpoints,
    open_checkpoint,
    step_of,
)
from fra_dist.train.checkpoints.tensor_file import write_tensors
from fra_dist.train.checkpoints.writing import Contents, write_folder
from fra_dist.train.run_dir.folder import compare_configs

_SHOWN = 20


def ls(args: argparse.Namespace) -> int:
    """Run `fra-dist ckpt ls`: print step, size, time, loss and path of each checkpoint of `args.path`; returns 0."""
    rows = [("step", "size", "written", "loss", "path")]
    folder = _folder(args.path)
    if args.json:
        print(json.dumps([_facts(path) for path in list_checkpoints(folder)], indent=1))
        return 0
    for path in list_checkpoints(folder):
        rows.append((str(step_of(path)), _size(path), _written(path), _loss(path), str(path)))
    for path in files.paths_in(folder, "aside-*"):
        rows.append(("-", _size(path), _written(path), "", f"{path} (set aside)"))
    _print_table(rows)
    return 0


def show(args: argparse.Namespace) -> int:
    """Run `fra-dist ckpt show`: print what the checkpoint at `args.path` holds; returns 0.

    Raises CheckpointError when there is none, or it is damaged.
    """
    found = find_checkpoint(args.path)
    if args.json:
        config = {"config": found.config.model_dump(mode="json", by_alias=True)} if args.config else {}
        more = {
            "metrics": dict(found.metrics),
            "versions": dict(found.versions),
            "averaged": list(found.averaged or ()),
        }
        print(json.dumps({**_facts(found.path), **more, **config}, indent=1))
        return 0
    rows = [("checkpoint", str(found.path)), ("step", str(found.step)), ("written", _written(found.path))]
    if found.averaged:
        rows.append(("mean of steps", ", ".join(map(str, found.averaged))))
    for file, (tensors, values, size) in contents_of(found.path).items():
        rows.append((file, f"{plural(tensors, 'tensor')}, {values:,} values, {size_text(size)}"))
    model = found.config.model
    regions = f"{model.regions} regions" if model.decoder else "no regions"
    rows.append(("model", f"{model.backbone}, {regions}, width {model.width}, hidden {model.hidden}"))
    rows += [(name, f"{value:.6g}") for name, value in found.metrics.items() if name != "step"]
    rows += [(f"version of {name}", str(value)) for name, value in found.versions.items() if value is not None]
    _print_table(rows)
    if args.config:
        print(f"\n{dump_config(found.config)}", end="")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Check sizes and checksums of a checkpoint, or of all of a run. Exit status 1 when one is damaged."""
    paths = [args.path] if _is_checkpoint(args.path) else list_checkpoints(_folder(args.path))
    verdicts = [(path, *_verdict(path)) for path in paths]
    if args.json:
        print(
            json.dumps([{"path": str(path), "verdict": word, "reason": why} for path, word, why in verdicts], indent=1)
        )
    else:
        for path, word, why in verdicts:
            print(f"{word:<9}{path}{f': {why}' if why else ''}")
    return 1 if any(why for _, _, why in verdicts) else 0


def _verdict(path: Path) -> tuple[str, str]:
    """Whether a checkpoint is good, foreign or DAMAGED, and why."""
    try:
        open_checkpoint(path)
    except FormatError as error:
        return "foreign", str(error)
    except CheckpointError as error:
        return "DAMAGED", str(error)
    return "good", ""


def _facts(path: Path) -> dict[str, object]:
    """Step, bytes, time of writing (seconds since 1970), loss and path of a checkpoint."""
    size = sum(file.stat().st_size for file in path.iterdir() if is_file(file))
    times = {"written": round(path.stat().st_mtime, 1), "loss": _loss_of(path)}
    return {"step": step_of(path), "bytes": size, **times, "path": str(path)}


def average(args: argparse.Namespace) -> int:
    """Write the mean of several checkpoints, as a checkpoint folder or a .safetensors file."""
    if exists(args.out):
        raise CheckpointError(f"{args.out} exists already: give another --out")
    found = _several(args.paths, args.last)
    mean, steps = mean_of(found), [one.step for one in found]
    last = found[-1]
    try:
        if args.out.suffix == ".safetensors":
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(args.out, mean)
        else:
            contents = Contents(last.step, last.config, mean, {}, last.versions, averaged=tuple(steps))
            write_folder(contents, args.out)
    except OSError as error:
        raise files.failure(error, f"cannot write {args.out}", CheckpointError) from None
    print(f"{args.out}: the mean of {len(found)} checkpoints, steps {', '.join(map(str, steps))}")
    print(
        "running statistics of batch norm are averaged as well, which is near to those of the mean network, not equal"
    )
    return 0


def diff(args: argparse.Namespace) -> int:
    """Print where two checkpoints differ, in settings and tensors. Exit status 1 when they do."""
    one, two = find_checkpoint(args.first), find_checkpoint(args.second)
    settings = [text for _, text in compare_configs(one.config, two.config)]
    if one.step != two.step:
        settings.insert(0, f"step: {one.step} -> {two.step}")
    tensors = {file: list(differences(one.path / file, two.path / file)) for file in (MODEL, OPTIMIZER)}
    if args.json:
        same = not settings and not any(tensors.values())
        rows = {file: [asdict(row) for row in found] for file, found in tensors.items()}
        print_json({"same": same, "settings": settings, "tensors": rows})
        return 0 if same else 1
    for text in settings:
        print(text)
    count = 0
    for file, found in tensors.items():
        count += len(found)
        print(
            f"{file}: {plural(len(found), 'tensor')} {'differs' if len(found) == 1 else 'differ'}"
            if found
            else f"{file}: the same to the bit"
        )
        _print_table([_row(one) for one in (found if args.all else found[:_SHOWN])], indent="  ")
        if len(found) > _SHOWN and not args.all:
            print(f"  and {len(found) - _SHOWN} more; --all shows them")
    return 1 if count or settings else 0


def _several(paths: Sequence[Path], last: int | None) -> list[Checkpoint]:
    if len(paths) == 1 and not _is_checkpoint(paths[0]):
        chosen = list_checkpoints(_folder(paths[0]))
        if last is not None and not 1 <= last <= len(chosen):
            raise CheckpointError(f"--last {last}: {paths[0]} has {len(chosen)} checkpoints")
        found = [open_checkpoint(path) for path in (chosen[-last:] if last else chosen)]
    elif last is not None:
        raise CheckpointError("--last needs one run folder, not checkpoints")
    else:
        found = sorted((find_checkpoint(path) for path in paths), key=lambda one: one.step)
    if len(found) < 2:
        raise CheckpointError(f"a mean needs two checkpoints or more, and there is {len(found)}")
    if len({one.path.resolve() for one in found}) < len(found):
        raise CheckpointError("one of the checkpoints is given twice")
    return found


def _is_checkpoint(path: Path) -> bool:
    return step_of(path) >= 0 or any(files.exists(path / part) for part in (MANIFEST, *PARTS))


def _folder(path: Path) -> Path:
    """The folder of checkpoints of a run folder, or itself. Raises CheckpointError when it holds none."""
    for folder in (path / "checkpoints", path):
        if list_checkpoints(folder):
            return folder
    raise CheckpointError(f"no checkpoints in {path}: give a run folder")


def _row(one: Difference) -> tuple[str, ...]:
    gap = f"|a-b| {one.absolute:.3g}" if one.absolute is not None else ""
    share = f"relative {one.relative:.3g}" if one.relative is not None else ""
    return one.name, gap, share, "" if one.why == "values" else one.why


def _loss(path: Path) -> str:
    value = _loss_of(path)
    return f"{value:.4f}" if value is not None else ""


def _loss_of(path: Path) -> float | None:
    """The loss at a checkpoint's step; None when it has none, or one that cannot be read: `ckpt verify` says why."""
    from fra_dist.train.checkpoints.retention import metric_of

    try:
        return metric_of(path, "loss/total")
    except FraError:
        return None


def _size(path: Path) -> str:
    return size_text(sum(file.stat().st_size for file in path.iterdir() if is_file(file)))


def _written(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))


def _print_table(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    for row in table:
        print(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
