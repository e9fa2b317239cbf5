"""The DALI graph: encoded photos in, views out, on the CPU or, with a GPU, decoded and augmented there.

DALI draws nothing itself: every number comes from `order.views` through external sources, so it has no state and the
geometry is known to the host. With `data.decode: once` a photo is decoded and the views are cut from it; with `crops`
the region of each view is decoded by itself, which is faster on a CPU (`benchmarks/input.py`). This is the only module
that imports DALI.

After the resize, the CPU graph runs `pixels.augment_normalise` as one operator per view, about ten times as fast as a
chain of DALI's operators on a CPU. The graph of a GPU is that chain; both follow torchvision's operations on uint8
pixels, and `tests/unit/data/test_pipelines.py` bounds their differences from them.
"""

from typing import Any

import nvidia.dali as dali
from nvidia.dali import fn, math
from nvidia.dali.plugin.numba import NumbaFunction

from fra_dist.config import DataConfig
from fra_dist.data.decoding import pixels
from fra_dist.data.decoding.jitter_slots import SLOTS
from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, SATURATION, views_of

types: Any = dali.types  # its members are made at run time

_FLOOR = -0.5 / 255  # makes DALI's rounding to the nearest a rounding down, as torchvision's


def build_graph(config: DataConfig, batch_size: int, gpu: int | None, chain: bool) -> Any:
    """Build the DALI pipeline for at most `batch_size` photos.

    gpu: number of the GPU, None for the CPU; chain: use the chain of operators, which a GPU needs. Inputs: `encoded`,
    and `view0.NAME`, `view1.NAME`, ... with the names that `DaliPipeline` feeds; outputs: the views, (B, 3, S, S)
    float32.
    """
    settings = {
        "batch_size": batch_size,
        "num_threads": config.threads,
        "device_id": gpu,
        # A greater depth makes the first run ask for as many batches at once; what is scheduled ahead overlaps with
        # training at any depth.
        "prefetch_queue_depth": 1,
        "exec_dynamic": True,
    }
    if chain:
        pipe = _chain_graph(config, "cpu" if gpu is None else "gpu", **settings)
    else:
        pipe = _host_graph(config, **settings)
    pipe.build()
    return pipe


class _Finish(NumbaFunction):  # type: ignore[misc]
    """DALI's NumbaFunction around the functions that `pixels.py` has compiled and numba has cached.

    The stock class compiles generic wrappers again in every process, which takes many seconds.
    """

    def _get_run_fn_cpu(self, *_: Any) -> int | None:
        return pixels.finish_sample.address

    def _get_setup_fn_cpu(self, *_: Any) -> int | None:
        return pixels.finish_shapes.address


def _source(view: int, what: str) -> Any:
    return fn.external_source(name=f"view{view}.{what}")


def _crops(config: DataConfig, decoder: str) -> list[Any]:
    """The crop of each view, resized: (S, S, 3) uint8."""
    encoded = fn.external_source(name="encoded", dtype=types.UINT8)
    boxes = [(_source(view, "start"), _source(view, "shape")) for view in range(len(views_of(config)))]
    if config.decode == "once" or (config.decode == "auto" and decoder == "mixed"):
        photo = fn.decoders.image(encoded, device=decoder, output_type=types.RGB)
        crops = [fn.slice(photo, start, shape, axes=[0, 1]) for start, shape in boxes]
    else:
        region = {"device": decoder, "output_type": types.RGB, "axes": [0, 1]}
        crops = [fn.decoders.image_slice(encoded, start=start, shape=shape, **region) for start, shape in boxes]
    sizes = [[size, size] for _, size in views_of(config)]
    linear = {"interp_type": types.INTERP_LINEAR, "antialias": True}
    return [fn.resize(crop, size=sizes[view], **linear) for view, crop in enumerate(crops)]


@dali.pipeline_def
def _host_graph(config: DataConfig) -> Any:
    finish = _Finish(
        run_fn=None,
        out_types=[types.FLOAT],
        in_types=[types.UINT8, types.FLOAT],
        outs_ndim=[3],
        ins_ndim=[3, 1],
        batch_processing=False,
    )
    return tuple(finish(crop, _source(view, "numbers")) for view, crop in enumerate(_crops(config, "cpu")))


@dali.pipeline_def(enable_conditionals=True)
def _chain_graph(config: DataConfig, device: str) -> Any:
    """The chain of DALI operators; device: gpu, or cpu to test it without one."""
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
