"""The end of views as a chain of DALI's operators, which the GPU loader was before: a baseline of `loader_host.py`.

The jitter has a fixed order in a graph while each sample has its own. Brightness, contrast and saturation are cheap to
have several times, hue is not: so the chain has three slots for the cheap operations, then the hue, then three slots
again; each operation goes to a slot before or after the hue, and the other slots stay empty for that sample.
"""

from typing import Any

import numpy as np
import nvidia.dali as dali
from numpy.typing import NDArray
from nvidia.dali import fn, math

from fra_dist.config import DataConfig
from fra_dist.data.decoding.dali_graph import _crops, _source, types
from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams, blur_radius, views_of

SLOTS = 6
EMPTY = HUE
"""The kind of a slot that does nothing."""
_FLOOR = -0.5 / 255  # makes DALI's rounding to the nearest a rounding down, as torchvision's


def define_chain(config: DataConfig, batch_size: int, gpu: int | None) -> Any:
    """The graph with the whole chain, for the CPU or a GPU."""
    settings = {"batch_size": batch_size, "num_threads": config.threads, "device_id": gpu}
    device = "cpu" if gpu is None else "gpu"
    return _chain_graph(config, device, prefetch_queue_depth=1, exec_dynamic=True, **settings)


@dali.pipeline_def(enable_conditionals=True)
def _chain_graph(config: DataConfig, device: str) -> Any:
    crops = _crops(config, "mixed" if device == "gpu" else "cpu")
    thresholds = [view.solarise_threshold for view, _ in views_of(config)]
    return tuple(_chain(crop, n, config, thresholds[n], device) for n, crop in enumerate(crops))


def _chain(x: Any, view: int, config: DataConfig, threshold: int, device: str) -> Any:
    for k in range(SLOTS // 2):
        x = _slot(x, _source(view, f"kind{k}"), _source(view, f"factor{k}"), device)
    shift = _source(view, "hue")
    if shift != 0.0:
        x = _hue(x, shift, device)
    for k in range(SLOTS // 2, SLOTS):
        x = _slot(x, _source(view, f"kind{k}"), _source(view, f"factor{k}"), device)
    if _source(view, "grey"):
        x = fn.color_space_conversion(_grey(x), image_type=types.GRAY, output_type=types.RGB)
    sigma, window = _source(view, "sigma"), _source(view, "window")
    if sigma > 0.0:
        x = fn.gaussian_blur(x, sigma=sigma, window_size=window)
    if _source(view, "solarise"):
        values = [v if v < threshold else 255 - v for v in range(256)]
        x = fn.lookup_table(x, keys=list(range(256)), values=values, dtype=types.UINT8)
    return fn.crop_mirror_normalize(
        x,
        mirror=_source(view, "flip"),
        mean=[255 * v for v in config.mean],
        std=[255 * v for v in config.std],
        output_layout="CHW",
        dtype=types.FLOAT,
    )


def _slot(x: Any, kind: Any, factor: Any, device: str) -> Any:
    if kind == BRIGHTNESS:
        x = fn.brightness_contrast(x, brightness=factor, brightness_shift=_FLOOR)
    elif kind == CONTRAST:
        mean = fn.reductions.mean(_grey(x)) - 0.5  # torchvision's grey is rounded down, DALI's to the nearest
        x = _blend(x, mean, _beside(factor, device))
    elif kind == SATURATION:
        x = _blend(x, _grey(x), _beside(factor, device))
    return x


def _grey(x: Any) -> Any:
    return fn.color_space_conversion(x, image_type=types.RGB, output_type=types.GRAY)


def _beside(number: Any, device: str) -> Any:
    """A number where the pixels are: operators take arguments from the host, arithmetic needs one place."""
    return number.gpu() if device == "gpu" else number


def _blend(x: Any, other: Any, factor: Any) -> Any:
    return fn.cast(x * factor + (other * (1.0 - factor) - 0.5), dtype=types.UINT8)


def _hue(x: Any, shift: Any, device: str) -> Any:
    """`pixels._hue` in whole-image operations, on 16-bit numbers."""
    planes = [x[:, :, c] for c in range(3)]
    high = math.max(math.max(planes[0], planes[1]), planes[2])
    low = math.min(math.min(planes[0], planes[1]), planes[2])
    chroma = high - low
    turn = fn.cast(chroma * _beside(shift * 6.0, device), dtype=types.INT16)
    wide = [fn.cast(plane, dtype=types.INT16) for plane in planes]
    base = wide[0] + wide[1] + wide[2] + chroma - low - turn
    twice, around, both = fn.cast(chroma, dtype=types.INT16) * 2, fn.cast(chroma, dtype=types.INT16) * 6, turn * 2
    turned = []
    for c in range(3):
        far = math.abs(base - wide[c] * 2 + (planes[(c + 1) % 3] > planes[(c + 2) % 3]) * both)
        far = math.min(far, around - far)
        turned.append(math.min(fn.cast(twice - far, dtype=types.UINT8), chroma) + low)
    return fn.reshape(fn.stack(*turned, axis=2), layout="HWC")


def chain_numbers(params: ViewParams, size: int) -> dict[str, NDArray[Any]]:
    """Arguments of the chain's operators by name, each (B,), for views of `size` pixels."""
    kinds, factors = fill_slots(params)
    numbers = {
        "hue": params.hue.astype(np.float32),
        "grey": params.grey.astype(np.int32),
        "sigma": params.sigma.astype(np.float32),
        "window": 2 * blur_radius(params.sigma, size) + 1,
        "solarise": (params.solarise < 256).astype(np.int32),
        "flip": params.flip.astype(np.int32),
    }
    for k in range(SLOTS):
        numbers[f"kind{k}"], numbers[f"factor{k}"] = kinds[:, k], factors[:, k]
    return numbers


def fill_slots(params: ViewParams) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Kinds and factors of the slots, each (B, 6): operations before the hue in slots 0 to 2, later ones in 3 to 5."""
    rows = np.arange(len(params))
    factors = np.stack([params.brightness, params.contrast, params.saturation, np.ones(len(params))], axis=1)
    place = np.argmax(params.order == HUE, axis=1)
    kinds = np.full((len(params), SLOTS), EMPTY, np.int32)
    for k in range(4):
        slot = np.where(k < place, k, k + 2)
        cheap = k != place
        kinds[rows[cheap], slot[cheap]] = params.order[cheap, k]
    chosen = np.take_along_axis(factors, kinds, axis=1)
    return np.where(chosen == 1, EMPTY, kinds).astype(np.int32), chosen.astype(np.float32)
