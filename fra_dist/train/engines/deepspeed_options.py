"""DeepSpeed's configuration, generated from ours; users may add keys of DeepSpeed for which ours has no setting."""

from typing import Any

import torch

from fra_dist.config import Config
from fra_dist.errors import ConfigError
from fra_dist.train.sizes import Sizes

_OURS = {
    "train_batch_size": "train.global_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.global_batch and train.micro_batch",
    "managed_gradient_accumulation": "train.global_batch and train.micro_batch",
    "gradient_clipping": "optim.clip",
    "optimizer": "optim.name",
    "scheduler": "optim.schedule",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "bfloat16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "communication_data_type": "train.precision",
    "activation_checkpointing": "train.activation_checkpointing",
    "compile": "train.compile",
    "steps_per_print": "log.every_steps",
    "checkpoint": "the section checkpoint",
    "tensorboard": "log.tensorboard",
    "zero_force_ds_cpu_optimizer": "optim.name",
    "zero_allow_untested_optimizer": "optim.name",
}
_OUR_ZERO = {
    "stage": "train.zero_stage",
    "compute_grad_norm": "optim.clip",
    "contiguous_gradients": "train.zero_stage",
    "round_robin_gradients": "train.zero_stage",
    "offload_optimizer": "train.zero_stage",
    "offload_param": "train.zero_stage",
    "cpu_offload": "train.zero_stage",
}
_NO_TIMERS = {"throughput": {"enabled": False}}
"""DeepSpeed's throughput timer synchronises the device twice a micro batch; `train.deepspeed.timers` may enable it."""
_KNOWN = {
    *("zero_optimization", "prescale_gradients", "gradient_predivide_factor", "sparse_gradients", "comms_logger"),
    *("wall_clock_breakdown", "memory_breakdown", "dump_state", "flops_profiler", "wandb", "csv_monitor", "comet"),
    *("disable_allgather", "seq_parallel_communication_data_type", "aio", "timers", "data_types"),
}


def deepspeed_dictionary(config: Config, sizes: Sizes, dtype: torch.dtype) -> dict[str, Any]:
    """Return the dictionary for `deepspeed.initialize`, with the keys of `train.deepspeed` merged in.

    `dtype` is the autocast type. Raises ConfigError for a key that one of our settings generates, or that DeepSpeed
    does not have.
    """
    extra = check_extra(config.train.deepspeed)
    zero: dict[str, Any] = {"stage": config.train.zero_stage}
    if zero["stage"]:
        # its norm is read on the host; buckets of 5e8 numbers would take 2 GB a rank before anything is trained
        zero |= {"compute_grad_norm": False, "reduce_bucket_size": 50_000_000, "allgather_bucket_size": 50_000_000}
    generated = {
        "train_batch_size": sizes.global_batch,
        "train_micro_batch_size_per_gpu": sizes.micro_batch,
        "gradient_accumulation_steps": sizes.accumulation,
        "gradient_clipping": 0.0,  # clips at 1.0 when it is left out; we clip, see `protocol.judge_gradients`
        "zero_optimization": zero | dict(extra.get("zero_optimization", {})),
        "zero_allow_untested_optimizer": True,
        # without the empty list gradients of linear and convolution layers would cross ranks in bf16
        "torch_autocast": {
            "enabled": dtype != torch.float32,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
        "steps_per_print": 1_000_000_000,
    }
    return {"timers": _NO_TIMERS, **extra, **generated}


def check_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return `train.deepspeed` unchanged. Raises ConfigError for a key that may not be in it."""
    zero = extra.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise ConfigError("train.deepspeed.zero_optimization must hold keys and values")
    for prefix, keys, ours in (("", extra, _OURS), ("zero_optimization.", zero, _OUR_ZERO)):
        for key in keys:
            if key in ours:
                raise ConfigError(f"train.deepspeed.{prefix}{key} is generated: set {ours[key]} instead")
    unknown = sorted(extra.keys() - _KNOWN)
    if unknown:
        raise ConfigError(
            f"train.deepspeed.{unknown[0]} is not a key that can be added: use {', '.join(sorted(_KNOWN))}"
        )
    return extra
