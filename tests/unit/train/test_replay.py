"""Which module a replayed step names as the first whose output is not finite."""

import torch
from torch import Tensor, nn

from fra_dist.config import load_config
from fra_dist.models.fra import FRA
from fra_dist.train.replay import _watch


def test_a_layer_of_the_decoder_is_named():
    """Layers return several tensors, and do not call their norms as modules."""
    torch.manual_seed(0)
    model = FRA(load_config("debug_cpu").model).train()
    decoder = model.online.decoder
    assert decoder is not None
    layer = next(module for module in decoder.modules() if isinstance(getattr(module, "norm1", None), nn.LayerNorm))
    nn.init.constant_(layer.norm1.weight, torch.nan)
    name = next(name for name, module in model.named_modules() if module is layer)
    images: list[Tensor] = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    with _watch(model) as (modules, _):
        model(*images)
    inner = [each for each in modules if each.startswith(name)]
    assert modules[0].startswith(name)
    assert name in inner
