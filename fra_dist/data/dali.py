"""The DALI path: encoded photos in, both views out, on the CPU or, with a GPU, decoded and augmented there.

DALI draws nothing itself: every number comes from `views.py` through external sources, so it has no state and the
geometry is known to the host. A photo is decoded once and both views are cut from it: for the photos of a few hundred
pixels that faces come in, that costs less than decoding two regions. This is the only file that imports DALI.

After the resize the graph of a CPU runs `pixels.py` as one operator per view, some ten times as fast as a chain of
DALI's operators on a CPU. The graph of a GPU is that chain; both follow torchvision's operations on uint8 pixels,
and `tests/unit/data/test_pipelines.py` bounds their differences from them.
"""

import io
from collections import deque
from typing import Any

import numpy as np
import nvidia.dali as dali
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, math
from nvidia.dali.plugin.numba import NumbaFunction
from PIL import Image
from torch import Tensor

from fra_dist.config import DataConfig
from fra_dist.data import pixels
from fra_dist.data.images import decode
from fra_dist.data.pipeline import Request, UndecodableError
from fra_dist.data.slots import SLOTS, chain_numbers
from fra_dist.data.views import BRIGHTNESS, CONTRAST, SATURATION

types: Any = dali.types  # its members are made at run time

_FLOOR = -0.5 / 255  # makes DALI's rounding to the nearest a rounding down, as torchvision's


class _Finish(NumbaFunction):  # type: ignore[misc]
    """DALI's NumbaFunction around the functions that `pixels.py` has compiled and numba has cached.

    The stock class compiles generic wrappers anew in every process, for many seconds.
    """

    def _get_run_fn_cpu(self, *_: Any) -> int | None:
        return pixels.finish_sample.address

    def _get_setup_fn_cpu(self, *_: Any) -> int | None:
        return pixels.finish_shapes.address


def _source(view: int, what: str) -> Any:
    return fn.external_source(name=f"view{view}.{what}")


def _cut(photo: Any, view: int, size: int) -> Any:
    x = fn.slice(photo, _source(view, "start"), _source(view, "shape"), axes=[0, 1])
    return fn.resize(x, size=[size, size], interp_type=types.INTERP_LINEAR, antialias=True)


@dali.pipeline_def
def _host_graph(config: DataConfig) -> Any:
    photo = fn.decoders.image(fn.external_source(name="encoded", dtype=types.UINT8), output_type=types.RGB)
    finish = _Finish(
        run_fn=None,
        out_types=[types.FLOAT],
        in_types=[types.UINT8, types.FLOAT],
        outs_ndim=[3],
        ins_ndim=[3, 1],
        batch_processing=False,
    )
    return tuple(finish(_cut(photo, view, config.image_size), _source(view, "numbers")) for view in (0, 1))


@dali.pipeline_def(enable_conditionals=True)
def _chain_graph(config: DataConfig, device: str) -> Any:
    """The chain of DALI operators; device: gpu, or cpu to test it without one."""
    encoded = fn.external_source(name="encoded", dtype=types.UINT8)
    photo = fn.decoders.image(encoded, device="mixed" if device == "gpu" else "cpu", output_type=types.RGB)
    return (
        _chain(photo, 0, config, config.view1.solarise_threshold, device),
        _chain(photo, 1, config, config.view2.solarise_threshold, device),
    )


def _chain(photo: Any, view: int, config: DataConfig, threshold: int, device: str) -> Any:
    x = _cut(photo, view, config.image_size)
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


class DaliPipeline:
    """Implements `pipeline.Pipeline`. chain: use the chain of operators on a CPU too."""

    def __init__(self, config: DataConfig, device: torch.device, batch_size: int, chain: bool = False) -> None:
        self.config, self.device, self.batch_size = config, device, batch_size
        self.gpu = device.type == "cuda"
        self.chain = chain or self.gpu
        self.waiting: deque[Request] = deque()
        self.done: deque[tuple[Tensor, Tensor] | UndecodableError] = deque()
        self.pipe = self._build()

    def submit(self, request: Request) -> None:
        self.waiting.append(request)
        self._feed(request)

    def collect(self) -> tuple[Tensor, Tensor]:
        outcome = self.done.popleft() if self.done else self._next()
        if isinstance(outcome, UndecodableError):
            raise outcome
        return outcome

    def redo(self, request: Request) -> tuple[Tensor, Tensor]:
        while self.waiting:  # DALI works in order: what is under way comes first, and is kept
            self.done.append(self._next())
        self.submit(request)
        outcome = self._next()
        if isinstance(outcome, UndecodableError):
            raise outcome
        return outcome

    def close(self) -> None:
        self.waiting.clear()
        self.done.clear()
        self.pipe = None

    def _next(self) -> tuple[Tensor, Tensor] | UndecodableError:
        """Outcome of the oldest request under way. A failure may leave the pipeline dead: it is built anew."""
        try:
            outcome: tuple[Tensor, Tensor] | UndecodableError = self._outputs()
        except RuntimeError as error:
            self.pipe = self._build()
            reasons = self._find_bad(self.waiting[0])
            if not reasons:
                raise
            outcome = UndecodableError(reasons)
            outcome.__cause__ = error
            for request in list(self.waiting)[1:]:
                self._feed(request)
        self.waiting.popleft()
        return outcome

    def _find_bad(self, request: Request) -> dict[int, str]:
        """Each photo alone: DALI names only the first bad one of a batch, and not always."""
        reasons = {}
        for i in range(len(request.images)):
            first, second = (params.take([i]) for params in request.params)
            alone = Request([request.images[i]], [request.heads[i]], (first, second))
            try:
                self._feed(alone)
                self._outputs()
            except RuntimeError as error:
                reasons[i] = _reason(error)
                self.pipe = self._build()
        return reasons

    def _outputs(self) -> tuple[Tensor, Tensor]:
        first, second = self.pipe.outputs()
        return self._tensor(first), self._tensor(second)

    def _tensor(self, output: Any) -> Tensor:
        return torch.from_dlpack(output.as_tensor()).clone()

    def _feed(self, request: Request) -> None:
        self.pipe.feed_input("encoded", [_bytes(request, i) for i in range(len(request.images))])
        size = self.config.image_size
        for view, params in enumerate(request.params):
            box = params.box
            numbers: dict[str, NDArray[Any]] = {"start": box[:, [1, 0]], "shape": box[:, [3, 2]] - box[:, [1, 0]]}
            if self.chain:
                numbers |= chain_numbers(params, size)
            else:
                numbers["numbers"] = pixels.pack(params, size, self.config.mean, self.config.std)
            for name, values in numbers.items():
                self.pipe.feed_input(f"view{view}.{name}", np.ascontiguousarray(values))
        self.pipe.schedule_run()

    def _build(self) -> Any:
        settings = {
            "batch_size": self.batch_size,
            "num_threads": self.config.threads,
            "device_id": self.device.index if self.gpu else None,
            # A greater depth makes the first run ask for as many batches at once; what is scheduled ahead overlaps
            # with training at any depth.
            "prefetch_queue_depth": 1,
            "exec_dynamic": True,
        }
        if self.chain:
            pipe = _chain_graph(self.config, "gpu" if self.gpu else "cpu", **settings)
        else:
            pipe = _host_graph(self.config, **settings)
        pipe.build()
        return pipe


def _bytes(request: Request, i: int) -> NDArray[np.uint8]:
    """What DALI is given of a photo: anything but a plain JPEG is decoded here and handed on as a bitmap."""
    data = request.images[i]
    if not request.heads[i].plain:
        out = io.BytesIO()
        Image.fromarray(decode(data)).save(out, "BMP")
        data = out.getvalue()
    return np.frombuffer(data, np.uint8)


def _reason(error: RuntimeError) -> str:
    """The line of DALI's report that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marks = [i for i, line in enumerate(lines) if line.startswith("encountered")]
    line = lines[marks[0] + 1] if marks and marks[0] + 1 < len(lines) else lines[0] if lines else "cannot be decoded"
    return line[:160]
