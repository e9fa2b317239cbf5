"""Chooses the decoding pipeline of a run: DALI, or Pillow with torchvision."""

import sys

import torch

from fra_dist.config import DataConfig
from fra_dist.data.decoding.pipeline import Pipeline
from fra_dist.errors import DataError


def open_pipeline(config: DataConfig, device: torch.device, batch_size: int) -> Pipeline:
    """Open the pipeline that `data.pipeline` names; `auto` takes DALI where it can be loaded, else warns.

    batch_size: photos of the largest request. Raises DataError when DALI is asked for and cannot be loaded.
    """
    if config.pipeline != "torch":
        try:
            from fra_dist.data.decoding.dali_pipeline import DaliPipeline

            return DaliPipeline(config, device, batch_size)
        except (ImportError, OSError) as error:
            if config.pipeline == "dali":
                raise DataError(f"DALI cannot be loaded ({error}): install it, or set data.pipeline=torch") from None
            print(
                f"warning: DALI cannot be loaded ({error}): Pillow and torchvision read the photos, more slowly; "
                "data.pipeline=torch says that this is meant",
                file=sys.stderr,
                flush=True,
            )
    from fra_dist.data.decoding.torch_pipeline import TorchPipeline

    return TorchPipeline(config, device)
