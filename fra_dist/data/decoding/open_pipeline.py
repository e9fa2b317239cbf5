"""Chooses the decoding pipeline of a run: DALI, or Pillow with torchvision."""

import sys

import torch

from fra_dist.config import DataConfig
from fra_dist.data.decoding.pipeline import HOST_FORM, Pipeline, ViewForm
from fra_dist.errors import DataError


def open_pipeline(config: DataConfig, device: torch.device, batch_size: int, form: ViewForm = HOST_FORM) -> Pipeline:
    """Open the pipeline that `data.pipeline` names; `auto` takes DALI where it can be loaded, else warns.

    batch_size: photos of the largest request; form: of the views that a GPU gives. Raises DataError when DALI is asked
    for and cannot be used.
    """
    if config.pipeline != "torch":
        try:
            from fra_dist.data.decoding.dali_pipeline import DaliPipeline

            return DaliPipeline(config, device, batch_size, form)
        except (ImportError, OSError, RuntimeError) as error:  # the last is DALI's: a driver too old, no decoder
            reason = " ".join(str(error).split())[:300]
            if config.pipeline == "dali":
                raise DataError(f"DALI cannot be used ({reason}): install it, or set data.pipeline=torch") from None
            print(
                f"warning: DALI cannot be used ({reason}): Pillow and torchvision read the photos, more slowly; "
                "data.pipeline=torch says that this is meant",
                file=sys.stderr,
                flush=True,
            )
    from fra_dist.data.decoding.torch_pipeline import TorchPipeline

    return TorchPipeline(config, device, form)
