"""Small models for the tests of exports."""

import torch

from fra_dist.config import parse_config
from fra_dist.models.fra import FRA

DECODER = {"layers": 2, "heads": 2, "feedforward": 16}


def small_config(**model):
    settings = {"regions": 5, "width": 16, "hidden": 24, "backbone": "tiny", "decoder": DECODER, **model}
    loss = {} if settings["decoder"] else {"local": 0.0, "relation": 0.0}
    return parse_config({"model": settings, "loss": loss, "data": {"image_size": 64}})


def trained_a_little(config):
    """A model whose statistics, target and prototypes are not those of the start."""
    torch.manual_seed(0)
    model = FRA(config.model)
    model(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64))
    for parameter in model.target.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return model
