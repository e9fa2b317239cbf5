"""The number format of a run, where `train.precision=auto` leaves it to the machine.

    a new run        bf16 on a GPU, and on CPUs if that of every rank computes in it and the loss has no relation term;
                     fp32 on CPUs otherwise
    in checkpoints   the format: a resumed run keeps it on any machine, even where it is slow
    other runs       of checkpoints without it go on as they began: bf16 on a GPU, fp32 on a CPU

With the relation term bf16 is not taken by itself: in two of three trainings of the demo that term rose in bf16 where
it fell or stayed in fp32, further apart than seeds are; all other terms were within the spread of seeds
(`benchmarks/precision.py`).
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from fra_dist.config import Config
from fra_dist.distributed import from_all

MEMORY = "precision"
"""The entry of a checkpoint's memory: "bf16" or "fp32", as `auto` was decided."""
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


def with_precision(config: Config, precision: str) -> Config:
    """Return the configuration with `train.precision` set."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def decided(config: Config, device: torch.device) -> Config:
    """Return the configuration of a new run on this machine with `auto` decided; every rank calls it."""
    if config.train.precision != "auto":
        return config
    fast = device.type == "cuda" or (config.loss.relation == 0 and all(from_all(cpu_computes_bf16())))
    return with_precision(config, "bf16" if fast else "fp32")


def precision_of_run(
    config: Config, device: torch.device, memory: Mapping[str, Any] | None
) -> tuple[Config, dict[str, str], str | None]:
    """Decide what `auto` means for a run; every rank calls it.

    memory: that of the checkpoint which the run resumes from, None for a new run. Returns the configuration with the
    decision, what the run's memory is to hold, and what people should know: that bf16 was taken on a CPU, or that it
    is slow here.
    """
    if config.train.precision != "auto":
        return config, {}, None
    if memory is None:
        made = decided(config, device)
        precision = str(made.train.precision)
    else:
        before = "bf16" if device.type == "cuda" else "fp32"
        precision = memory[MEMORY] if memory.get(MEMORY) in ("bf16", "fp32") else before
        made = with_precision(config, precision)
    told = None
    if device.type == "cpu" and precision == "bf16":
        if memory is None:
            told = "this CPU computes in bf16, so the run does; train.precision=fp32 would not"
        elif not all(from_all(cpu_computes_bf16())):
            told = "the run began in bf16 and keeps to it, but this CPU computes it by way of fp32, which is slow; "
            told += "train.precision=fp32 with --force goes on in fp32"
    return made, {MEMORY: precision}, told
