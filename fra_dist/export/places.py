"""Where an export goes: a file or a folder that appears whole, and replaces another only when that is asked for."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.files import exists, failure, is_file, is_folder, whole_file


def place_for(out: str | Path | None, name: str, suffixes: tuple[str, ...], overwrite: bool) -> Path:
    """The path to write, for what the user gave as `out`: a file, a folder that may be new, or None for `name` here.

    suffixes: those that a file may have; none of them: the export is itself a folder. Raises ConfigError for a file
    name that does not suit the format, or when something is there and `overwrite` is not given.
    """
    if out is None:
        path = Path(name)
    elif not suffixes:
        path = Path(out)
    elif is_folder(Path(out)) or str(out).endswith(os.sep) or not Path(out).suffix:
        path = Path(out) / name
    elif Path(out).suffix in suffixes:
        path = Path(out)
    else:
        raise ConfigError(f"--out {out} must end in {' or '.join(suffixes)} for this format, or name a folder")
    refuse_to_replace(path, overwrite, folder=not suffixes)
    return path


def refuse_to_replace(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Raise ConfigError when `path` is there and may not be replaced. An empty folder may."""
    if folder and is_folder(path) and not any(path.iterdir()):
        return
    if folder and is_folder(path) and overwrite and not is_file(path / "config.json"):
        raise ConfigError(f"{path} is a folder that no export made: --overwrite does not replace it")
    if os.path.lexists(path) and not overwrite:
        raise ConfigError(f"{path} is there already: give another --out, or --overwrite to replace it")


@contextmanager
def whole(path: Path, folder: bool = False) -> Iterator[Path]:
    """A temporary path for an export, which takes the name `path` when the block ends and is deleted after an error.

    The umask decides who may read it. Raises CheckpointError when the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not folder:
            with whole_file(path) as partial:
                yield partial
            return
        with _whole_folder(path) as made:
            yield made
    except OSError as error:
        raise failure(error, f"cannot write {path}", CheckpointError) from None


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        inside = made / path.name
        inside.mkdir()
        yield inside
        for file in inside.rglob("*"):
            file.chmod((0o777 if is_folder(file) else 0o666) & ~_umask())
        if exists(path):
            path.rename(made / "before")
        inside.rename(path)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
