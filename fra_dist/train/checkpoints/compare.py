"""Comparing and averaging checkpoints one tensor at a time, so that memory holds one tensor and not whole models."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.files import disk_errors, failure, patiently
from fra_dist.train.checkpoints.reading import MODEL, OPTIMIZER, Checkpoint


@dataclass(frozen=True)
class Difference:
    """A tensor that two checkpoints do not share bit for bit."""

    name: str
    """The name of the tensor."""
    why: str
    """What differs: the shape, the type, the values, or that only one of the two has the tensor."""
    absolute: float | None = None
    """The largest |a - b|; NaN when only one has a NaN somewhere; None when there is nothing to subtract."""
    relative: float | None = None
    """The largest |a - b| / max(|a|, |b|); NaN and None as for `absolute`."""


def differences(one: Path, two: Path) -> Iterator[Difference]:
    """Yield the differences between two safetensors files, in the order of names.

    Raises CheckpointError when one of them cannot be read.
    """
    with ExitStack() as stack:
        a, b = (_open(stack, path) for path in (one, two))
        first, second = set(a.keys()), set(b.keys())
        for name in sorted(first | second):
            if name not in second:
                yield Difference(name, "only in the first")
            elif name not in first:
                yield Difference(name, "only in the second")
            else:
                found = _difference(name, a.get_tensor(name), b.get_tensor(name))
                if found is not None:
                    yield found


def same_bits(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal in type, shape and every bit: NaN equals the same NaN, 0.0 is not -0.0."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    first, second = (t.contiguous().reshape(-1).view(torch.uint8) for t in (one, two))
    return torch.equal(first, second)


def average(checkpoints: Sequence[Checkpoint]) -> dict[str, Tensor]:
    """Return the mean of the weights and of every floating-point buffer of several checkpoints, computed in float64.

    Other buffers are those of the last checkpoint. Running statistics of batch norm are averaged like weights: that is
    near, but not equal, to the statistics that the mean network would gather itself. Raises CheckpointError when the
    checkpoints are of different architectures or one cannot be read.
    """
    if len({str(one.config.model) for one in checkpoints}) > 1:
        raise CheckpointError("the checkpoints are of different models (`fra-dist ckpt diff` shows how): no mean")
    mean: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = [_open(stack, one.path / MODEL) for one in checkpoints]
        for name in files[-1].keys():  # noqa: SIM118
            last = files[-1].get_tensor(name)
            if not last.is_floating_point():
                mean[name] = last
                continue
            total = torch.zeros_like(last, dtype=torch.float64)
            for file in files:
                total += file.get_tensor(name)
            mean[name] = (total / len(files)).to(last.dtype)
    return mean


def contents_of(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return {file: (tensors, values, bytes)} for the safetensors files of a checkpoint folder.

    Raises CheckpointError when one of them cannot be read.
    """
    found = {}
    for file in (MODEL, OPTIMIZER):
        with ExitStack() as stack:
            opened = _open(stack, path / file)
            shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
        found[file] = (len(shapes), sum(torch.Size(s).numel() for s in shapes), (path / file).stat().st_size)
    return found


def _open(stack: ExitStack, path: Path) -> safe_open:
    def opened() -> safe_open:
        with disk_errors(path):
            return stack.enter_context(safe_open(path, "pt"))

    try:
        return patiently(opened)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise failure(error, f"{path} cannot be read", CheckpointError) from None


def _difference(name: str, one: Tensor, two: Tensor) -> Difference | None:
    if same_bits(one, two):
        return None
    if one.shape != two.shape:
        return Difference(name, f"shape {tuple(one.shape)} and {tuple(two.shape)}")
    a, b = one.double(), two.double()
    gap = (a - b).abs()
    gap = torch.where((a == b) | (a.isnan() & b.isnan()), torch.zeros_like(gap), gap)  # equal infinities too
    scale = torch.maximum(a.abs(), b.abs())
    relative = torch.where(gap == 0, torch.zeros_like(gap), gap / scale)
    why = f"type {one.dtype} and {two.dtype}" if one.dtype != two.dtype else "values"
    return Difference(name, why, float(gap.max()), float(relative.max()))
