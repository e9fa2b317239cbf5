"""What is said of a path that is no run folder."""

from pathlib import Path

from fra_dist import files

SETTINGS = "config.yaml"
"""The file by which a run folder is known."""


def no_run(folder: Path) -> str:
    """Why a path is no run folder, in one line: it is not there, holds run folders, or holds something else.

    Needs no torch. Raises DiskError or AccessError when the folder cannot be read.
    """
    if not files.exists(folder):
        return f"no run at {folder}: no such folder"
    if not files.is_folder(folder):
        return f"{folder} is not a run folder: it is a file"
    inside = [path for path in files.paths_in(folder) if files.is_folder(path) and files.exists(path / SETTINGS)]
    if inside:
        others = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        return f"{folder} is not a run folder, but holds {inside[0]}{others}: name those"
    return f"{folder} is not a run folder: it has no {SETTINGS}"
