"""The number format of a run, where `train.precision=auto` leaves it to the machine.

    a new run        bf16 on a GPU; on CPUs if that of every rank has instructions for it, rank 0 measures that it is
                     faster with them, the loss has no relation term and train.deterministic is off; fp32 on CPUs
                     otherwise
    in checkpoints   the format: a resumed run keeps it on any machine, even where it is slow
    other runs       of checkpoints without it go on as they began: bf16 on a GPU, fp32 on a CPU

Instructions alone do not say it: with those of AVX-512, but without AMX, one Xeon takes 1.5 times as long for a step in
bf16 as in fp32, where an EPYC takes half as long (docs/performance.md).

With the relation term bf16 is not taken by itself: in two of three trainings of the demo that term rose in bf16 where
it fell or stayed in fp32, further apart than seeds are; all other terms were within the spread of seeds
(`benchmarks/precision.py`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from fra_dist import files
from fra_dist.config import Config
from fra_dist.distributed import from_all, from_main
from fra_dist.errors import AccessError, DiskError
from fra_dist.train.cpu_measurements import cache_path, machine, times

MEMORY = "precision"
"""The entry of a checkpoint's memory: "bf16" or "fp32", as `auto` was decided."""
KIND = "precision"
"""Of the measurements in the cache: {"machine": str, "bf16_over_fp32": float}."""
_GAIN = 0.9
"""bf16 is taken below this share of the time of fp32, so that repeated measurements seldom decide differently."""
_WITH_BF16 = "BF16", "FP16", "AMX", "AVX10", "DEFAULT", "ALL"
"""Parts of the names of instruction sets with bf16, to which $ONEDNN_MAX_CPU_ISA may limit oneDNN."""


def cpu_computes_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers by instructions for them (AVX-512 BF16 or AMX) and oneDNN may use them.

    Elsewhere bf16 gives the same results by way of fp32, more slowly than fp32 itself.
    """
    return _usable(
        avx512=torch.cpu._is_avx512_bf16_supported(),
        amx=torch.cpu._is_amx_tile_supported(),
        limit=os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    )


def _usable(*, avx512: bool, amx: bool, limit: str) -> bool:
    return (avx512 or amx) and (not limit or any(part in limit.upper() for part in _WITH_BF16))


def bf16_share() -> tuple[float | None, str]:
    """The time of bf16 over that of fp32 on this CPU, from the cache or measured now; and a sentence about it.

    None where the CPU does not compute in bf16, and where no measurement can be kept: a run that is begun again must
    compute as before.
    """
    if not cpu_computes_bf16():
        return None, "this CPU computes bf16 by way of fp32"
    try:
        path, share = cache_path(KIND), known_share()
        if share is None:
            files.make_folder(path.parent)
            share = measure()
            files.write_object(path, {"machine": machine(), "bf16_over_fp32": share})
    except (DiskError, AccessError, OSError) as error:
        return None, f"whether bf16 is faster is not known, because no measurement can be kept in the cache: {error}"
    return share, f"this CPU takes {share:.2f} times as long in bf16 as in fp32"


def known_share() -> float | None:
    """What is in the cache of the time of bf16 over that of fp32 on this machine; None when nothing is.

    Raises DiskError or AccessError when it cannot be read.
    """
    return _parse(files.read_object(cache_path(KIND)))


@torch.no_grad()
def measure() -> float:
    """The time of bf16 over that of fp32: passes of a 3x3 convolution, forward and both gradients, and a product.

    They are of the sizes that a step of a ResNet-18 has. Takes half a second; draws no number of the run's.
    """
    random = torch.Generator().manual_seed(0)

    def work(dtype: torch.dtype) -> Callable[[], None]:
        maps = torch.randn((16, 128, 14, 14), generator=random).to(dtype).contiguous(memory_format=torch.channels_last)
        kernel = torch.randn((128, 128, 3, 3), generator=random).to(dtype)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        rows = torch.randn((256, 1024), generator=random).to(dtype)
        square = torch.randn((1024, 1024), generator=random).to(dtype)
        rest = None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, True, False)

        def passes() -> None:
            torch.conv2d(maps, kernel, None, 1, 1)
            torch.ops.aten.convolution_backward(maps, maps, kernel, *rest)
            F.linear(rows, square)

        return passes

    of_bf16, of_fp32 = times(work(torch.bfloat16), work(torch.float32))
    return of_bf16 / of_fp32


def is_faster(share: float | None) -> bool:
    """Whether `auto` takes bf16 on a CPU with this `bf16_share`."""
    return share is not None and share < _GAIN


def _parse(record: Any) -> float | None:
    share = record.get("bf16_over_fp32") if isinstance(record, dict) else None
    return float(share) if isinstance(share, int | float) and share > 0 else None


def with_precision(config: Config, precision: str) -> Config:
    """Return the configuration with `train.precision` set."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def decided(config: Config, device: torch.device) -> tuple[Config, str | None]:
    """Return the configuration of a new run on this machine with `auto` decided, and why, if a CPU was measured.

    Every rank calls it.
    """
    if config.train.precision != "auto":
        return config, None
    if device.type == "cuda":
        return with_precision(config, "bf16"), None
    # what was measured may be lost before the run is begun again, which must not matter where `deterministic` is set
    if config.loss.relation or config.train.deterministic or not all(from_all(cpu_computes_bf16())):
        return with_precision(config, "fp32"), None
    share, reason = from_main(bf16_share)
    named, other = ("bf16", "fp32") if is_faster(share) else ("fp32", "bf16")
    told = f"{reason}, so the run computes in {named}; train.precision={other} would not"
    return with_precision(config, named), told


def precision_of_run(
    config: Config, device: torch.device, memory: Mapping[str, Any] | None
) -> tuple[Config, dict[str, str], str | None]:
    """Decide what `auto` means for a run; every rank calls it.

    memory: that of the checkpoint which the run resumes from, None for a new run. Returns the configuration with the
    decision, what the run's memory is to hold, and what people should know: what was measured on a CPU, or that bf16
    is slow here.
    """
    if config.train.precision != "auto":
        return config, {}, None
    if memory is None:
        made, told = decided(config, device)
        return made, {MEMORY: str(made.train.precision)}, told
    before = "bf16" if device.type == "cuda" else "fp32"
    precision = memory[MEMORY] if memory.get(MEMORY) in ("bf16", "fp32") else before
    return with_precision(config, precision), {MEMORY: precision}, _warning(precision, device)


def _warning(precision: str, device: torch.device) -> str | None:
    """What people should know who resume in bf16 on a CPU where that is slow."""
    if device.type != "cpu" or precision != "bf16":
        return None
    slow = [reason for share, reason in from_all(bf16_share()) if not is_faster(share)]
    if not slow:
        return None
    return f"the run began in bf16 and keeps to it, but {slow[0]}; train.precision=fp32 with --force goes on in fp32"
