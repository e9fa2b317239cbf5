"""Which way each convolution of a run is computed on a CPU: measured once, kept for later starts, fixed inside a run.

    a new run       each pass of each layer is PyTorch's or a matrix product, whichever a measurement finds faster; the
                    findings are kept in the user's cache, by CPU, PyTorch, threads, layer and images
    in checkpoints  the choice and where it was measured: a resumed run computes as it began, on any machine, whether or
                    not there is a cache
    other runs      of checkpoints without a choice keep `models.convolution.FORMER`, with which they began; with
                    train.deterministic all passes are PyTorch's

A product must take less than 90 % of PyTorch's time to be chosen, so that a measurement seldom decides differently when
it is repeated. Where it cannot be kept, `FORMER` holds: a run that is begun again gives the same bits. Ranks use what
rank 0 found.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist import files
from fra_dist.config import Config
from fra_dist.distributed import from_main
from fra_dist.errors import AccessError, DiskError
from fra_dist.models.convolution import (
    Layer,
    Ways,
    input_gradient,
    layers_of,
    output,
    pytorch_gradients,
    use_patches,
    weight_gradient,
)
from fra_dist.models.fra import FRA
from fra_dist.train.cpu_measurements import cache_path, machine, times

MEMORY = "convolutions"
"""The entry of a checkpoint's memory: {"machine": str, "layers": {name: names of the passes that are products}}."""
_GAIN = 0.9
"""A product is chosen below this share of PyTorch's time."""
_ROWS = 1024
"""Images are measured until the output has this many places: more hardly change which way is faster."""
_LEAST = 4
KIND = "convolutions"
"""Of the measurements in the cache."""


def convolutions_of_run(
    model: FRA, config: Config, device: torch.device, images: int, memory: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str | None]:
    """Apply the choice of a run to its model; every rank calls it.

    images: of one pass through the backbone; memory: that of the checkpoint which the run resumes from, None for a new
    run. Returns what the run's memory is to hold, and what people should know: how the choice was made, or that it was
    made elsewhere.
    """
    if device.type != "cpu" or not config.train.channels_last or config.train.compile:
        # the record goes on with the run, which may come back to a CPU
        return {MEMORY: memory[MEMORY]} if memory and MEMORY in memory else {}, None
    if memory is not None:
        return _resumed(model, memory)
    use_patches(model.online.backbone)
    sizes = [config.data.image_size, *([config.data.local_size] if config.data.local_views else [])]
    dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
    layers = [] if config.train.precision == "fp64" else layers_of(model.online.backbone, sizes, dtype)
    told: str | None = None
    chosen: dict[str, Ways] | None = {}
    if layers and not config.train.deterministic:
        chosen, told = from_main(lambda: choose(layers, images))
    apply(model, chosen)
    if chosen is None:
        return {}, told
    return {MEMORY: {"machine": machine(), "layers": {name: _words(ways) for name, ways in chosen.items()}}}, told


def apply(model: FRA, chosen: Mapping[str, Ways] | None) -> None:
    """Have the backbones of both networks compute as `chosen` says, by names of layers; None: the former rule."""
    for backbone in (model.online.backbone, model.target.backbone):
        use_patches(backbone, chosen)


def choose(layers: Iterable[Layer], images: int) -> tuple[dict[str, Ways] | None, str]:
    """Return the ways of layers that get `images` at a time, from the cache or measured; and a sentence about it.

    None instead of the ways when the cache cannot be used: a second measurement might decide otherwise.
    """
    keys = {layer: f"{layer.name}_n{images_of(layer, images)}" for layer in layers}
    told = ""
    try:
        path = cache_path(KIND)
        known = read_cache(path)
        missing = {key: layer for layer, key in keys.items() if key not in known}
        if missing:
            files.make_folder(path.parent)
            start = time.perf_counter()
            new = {key: measure(layer, images_of(layer, images)) for key, layer in missing.items()}
            told = f", {len(new)} measured now in {time.perf_counter() - start:.1f} s"
            known = new | read_cache(path)  # what another run found first, at the same time, holds for both
            files.write_object(path, _record(known))
    except (DiskError, AccessError, OSError) as error:
        return None, f"convolutions: as ever, because no measurement can be kept in the cache: {error}"
    found = {layer.name: known[key] for layer, key in keys.items()}
    return found, f"convolutions: {summary(found.values())}{told} ({machine()})"


def _record(known: Mapping[str, Ways]) -> dict[str, Any]:
    return {"machine": machine(), "layers": {key: _words(ways) for key, ways in known.items()}}


def summary(ways: Iterable[Ways]) -> str:
    """Say how many layers there are and how many passes of each kind are products."""
    ways = list(ways)
    counts = ", ".join(f"{sum(getattr(one, name) for one in ways)} {name}" for name in Ways._fields)
    return f"matrix products for {counts} passes of {len(ways)} layers, PyTorch's for the others"


def read_cache(path: Path) -> dict[str, Ways]:
    """Read measurements by layer and images; empty when there are none or the file is damaged.

    Raises DiskError or AccessError when it cannot be read.
    """
    return parse(files.read_object(path)) or {}


def parse(record: Any) -> dict[str, Ways] | None:
    """Read the layers of a record; None when it is not a whole one."""
    layers = record.get("layers") if isinstance(record, dict) else None
    if not isinstance(layers, dict):
        return None
    found = {}
    for name, words in layers.items():
        if not isinstance(words, list) or any(word not in Ways._fields for word in words):
            return None
        found[name] = Ways(*(field in words for field in Ways._fields))
    return found


def images_of(layer: Layer, images: int) -> int:
    """How many of `images` a layer is measured with."""
    down, right = layer.stride
    places = -(-layer.height // down) * -(-layer.width // right)
    return min(images, max(_LEAST, -(-_ROWS // places)))


@torch.no_grad()
def measure(layer: Layer, images: int) -> Ways:
    """Time both ways of each pass of a layer in turn, and choose."""
    random = torch.Generator().manual_seed(0)  # of its own: the run draws what it would have drawn

    def numbers(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=random).to(layer.dtype)
        return drawn.contiguous(memory_format=torch.channels_last)

    x = numbers(images, layer.inputs, layer.height, layer.width)
    weight = numbers(layer.outputs, layer.inputs, *layer.kernel)
    dy = numbers(*torch.conv2d(x, weight, None, layer.stride, layer.padding).shape)
    at = (layer.stride, layer.padding)
    forward = _faster(lambda: torch.conv2d(x, weight, None, *at), lambda: output(x, weight, *at))
    of_input = layer.can_turn and _faster(
        lambda: pytorch_gradients(x, dy, weight, *at, True, False), lambda: input_gradient(x, dy, weight, *at)
    )
    of_weight = _faster(
        lambda: pytorch_gradients(x, dy, weight, *at, False, True),
        lambda: weight_gradient(x, dy, layer.kernel, *at),
    )
    return Ways(forward, of_input, of_weight)


def _faster(pytorch: Callable[[], Any], product: Callable[[], Any]) -> bool:
    """Whether a product is faster."""
    of_pytorch, of_product = times(pytorch, product)
    return of_product < _GAIN * of_pytorch


def _resumed(model: FRA, memory: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    record = memory.get(MEMORY)
    chosen = parse(record)
    apply(model, chosen)
    if chosen is None:
        return {}, None
    assert isinstance(record, dict)
    made, here = record.get("machine"), machine()
    told = f"convolutions are computed as measured on {made}, where the run began; this is {here}: results may differ "
    told += "in their last bits from those of a run that stayed there"
    return {MEMORY: record}, told if made != here else None


def _words(ways: Ways) -> list[str]:
    return [name for name in Ways._fields if getattr(ways, name)]
