"""The configurations and launchers that come with this package, in a checkout and in an installed wheel.

A checkout has them at its top (`configs/`, `launchers/`); a wheel has copies in `fra_dist/_shipped/`, as pyproject.toml
says.
"""

import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fra_dist.errors import ConfigError
from fra_dist.files import exists, failure, is_folder, paths_below

CONFIGS: Literal["configs"] = "configs"
LAUNCHERS: Literal["launchers"] = "launchers"
_PACKAGE = Path(__file__).resolve().parents[1]
_NOT_CONFIGS = ("variants", "plans")
"""Names of files that say how the runs of a study differ."""
_log = logging.getLogger("fra_dist.config")


def shipped_folder(kind: Literal["configs", "launchers"]) -> Path:
    """The folder of the shipped configurations or launchers. Raises ConfigError when this installation has none."""
    for parent in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if is_folder(parent / kind):
            return parent / kind
    raise ConfigError(f"this installation of fra-dist has no {kind}: install its wheel again, or use a checkout")


def shipped_configs() -> dict[str, Path]:
    """Name (`demo`, `study/r18`) -> file of each shipped configuration, in alphabetical order."""
    folder = shipped_folder(CONFIGS)
    files = [path for path in paths_below(folder, "*.yaml") if path.stem not in _NOT_CONFIGS]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_config(given: str | Path) -> Path:
    """The file that a user means by a CONFIG argument.

    A file of that name comes first. Where there is none, `demo`, `demo.yaml` and `configs/demo.yaml` are the shipped
    configuration; anything else is returned as it was given, for its reader to refuse.
    """
    path = Path(os.path.expanduser(given))
    if _is_there(path):
        return path
    name = str(given).removeprefix("./").removesuffix(".yaml")
    found = shipped_configs().get(name.removeprefix(f"{CONFIGS}/"))
    if found is None:
        return path
    if name.startswith(f"{CONFIGS}/"):
        _log.warning("%s is not here: using the shipped configuration %s", given, found)
    return found


def copy_shipped(target: Path) -> list[Path]:
    """Copy all shipped configurations and launchers into `target`, which is made if need be.

    Returns the new files. Raises ConfigError, before anything is written, when one of them exists already, and when
    the disk refuses.
    """
    pairs = [(source, target / place) for source, place in _shipped_files()]
    try:
        for _, path in pairs:
            if exists(path) or path.is_symlink():
                raise ConfigError(f"{path} exists already, and nothing was written: name another folder")
        for source, path in pairs:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            if source.suffix in (".sh", ".sbatch"):
                path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise failure(error, f"cannot write {error.filename or target}", ConfigError) from None
    return [path for _, path in pairs]


def _shipped_files() -> Iterator[tuple[Path, Path]]:
    """(file, its place in a folder of the user's)."""
    for kind in (CONFIGS, LAUNCHERS):
        folder = shipped_folder(kind)
        for path in paths_below(folder):
            if "__pycache__" not in path.parts:
                yield path, Path(kind) / path.relative_to(folder)


def _is_there(path: Path) -> bool:
    """Whether there is a file, or something that only its reader can tell, such as a disk that does not answer."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
