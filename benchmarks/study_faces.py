"""The faces of the study: what is pre-trained on becomes shards, labelled sets are unpacked beside them."""

import tarfile
from pathlib import Path

from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.errors import DataError

LABELLED = ("landmarks68", "attributes", "expression", "regions")


def labelled_sets(faces: Path, work: Path) -> dict[str, Path]:
    """Folder of each labelled set: FACES/NAME, or FACES/NAME.tar unpacked once. Raises DataError that names one."""
    found = {}
    for name in LABELLED:
        folder, tar, unpacked = faces / name, faces / f"{name}.tar", work / "labelled" / name
        if (folder / "labels.csv").is_file():
            found[name] = folder
            continue
        if not (unpacked / "labels.csv").is_file():
            if not tar.is_file():
                raise DataError(f"--faces {faces} has neither {name}/labels.csv nor {name}.tar")
            _unpack(tar, unpacked)
        found[name] = unpacked
    return found


def pretraining_shards(faces: Path, work: Path, workers: int | None = None) -> Path:
    """Shards of every pretrain_* in FACES, tars or folders, made once. Raises DataError."""
    shards = work / "shards"
    if (shards / "manifest.json").is_file():
        return shards
    sources = sorted(faces.glob("pretrain_*"))
    if not sources:
        raise DataError(f"--faces {faces} has nothing called pretrain_* to pre-train on")
    links = work / "pretrain"
    links.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if not (links / source.name).exists():
            (links / source.name).symlink_to(source.resolve())
    make_shards(links, shards, ShardOptions(workers=workers))
    return shards


def _unpack(tar: Path, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(tar) as archive:
            archive.extractall(partial, filter="data")
        (partial / folder.name).rename(folder)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{tar} cannot be unpacked as {folder.name}/...: {error}") from None
