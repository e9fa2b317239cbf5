"""Weights that come with the package: whole networks in `fra_dist/weights/`, found by name and checked before use.

`SHA256SUMS` there lists them, in the format of the command sha256sum; beside each file lies its model card.
"""

import hashlib
from pathlib import Path

from fra_dist.errors import CheckpointError
from fra_dist.files import exists

FOLDER = Path(__file__).parents[1] / "weights"
SUMS = "SHA256SUMS"


def shipped_weights(folder: Path = FOLDER) -> dict[str, str]:
    """The SHA-256 of each file of weights, by its name without suffix; empty when none is shipped.

    Raises CheckpointError when the list cannot be read.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / SUMS} cannot be read: {error}; install the package again") from None
    return {Path(name).stem: digest for digest, name in (line.split() for line in lines)}


def find_weights(name: str, folder: Path = FOLDER) -> Path | None:
    """The file of weights of that name, whose checksum is right; None for a name that is not shipped.

    Raises CheckpointError when the file is missing or is not the one that was shipped.
    """
    expected = shipped_weights(folder).get(name)
    if expected is None:
        return None
    path = folder / f"{name}.safetensors"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"the weights {name} cannot be read: {error}; install the package again") from None
    if found != expected:
        raise CheckpointError(
            f"{path} is not what was shipped (SHA-256 {found[:12]}, not {expected[:12]}): install the package again"
        )
    return path


def refuse_missing_weights(given: str) -> None:
    """Raise CheckpointError for a network that is neither a path nor in the package, before torch is imported.

    given: as for `fra_dist.load`, or `random:...`, which needs no file.
    """
    if not given.startswith("random:") and not exists(Path(given)) and given not in shipped_weights():
        raise no_weights(given)


def refuse_missing_init(given: str) -> None:
    """Raise CheckpointError for a `model.init` that is neither a path nor in the package; needs no torch."""
    if not exists(Path(given)) and given not in shipped_weights():
        raise no_init(given)


def no_init(given: str | Path) -> CheckpointError:
    """The error about a `model.init` that is neither a path nor the name of weights in the package."""
    names = ", ".join(sorted(shipped_weights()))
    return CheckpointError(f"model.init={given}: no such file or folder, nor weights in the package ({names})")


def no_weights(given: str) -> CheckpointError:
    """The error about a name that is neither a path nor that of weights in the package."""
    names = ", ".join(sorted(shipped_weights())) or "none"
    return CheckpointError(f"no checkpoint at {given}: no such file or folder, nor weights in the package ({names})")
