"""The DALI graph: encoded photos in, views out on the CPU; with a GPU their pixels, decoded and resized there.

DALI draws nothing itself: every number comes from `order.views` through external sources, so it has no state and the
geometry is known to the host. With `data.decode: once` a photo is decoded and the views are cut from it; with `crops`
the region of each view is decoded by itself, which is faster on a CPU (`benchmarks/input.py`). This is the only module
that imports DALI.

After the resize, the CPU graph runs `pixels.augment_normalise` as one operator per view, about ten times as fast as a
chain of DALI's operators. The graph of a GPU ends there, and one kernel per view does the same to the batch
(`device_views`): a chain is hundreds of operators, each of which costs the host time.
"""

from typing import Any

import nvidia.dali as dali
from nvidia.dali import fn
from nvidia.dali.plugin.numba import NumbaFunction

from fra_dist.config import DataConfig
from fra_dist.data.decoding import pixels
from fra_dist.data.order.views import views_of

types: Any = dali.types  # its members are made at run time


def build_graph(config: DataConfig, batch_size: int, gpu: int | None, finished: bool) -> Any:
    """Build the DALI pipeline for at most `batch_size` photos; see `define_graph`."""
    pipe = define_graph(config, batch_size, gpu, finished)
    pipe.build()
    return pipe


def define_graph(config: DataConfig, batch_size: int, gpu: int | None, finished: bool) -> Any:
    """Define the DALI pipeline for at most `batch_size` photos. It touches no device before it is built.

    gpu: number of the GPU, None for the CPU; finished: whether views are augmented and normalised in the graph, which
    only a CPU does. Inputs: `encoded`, and `view0.NAME`, `view1.NAME`, ... with the names that `DaliPipeline` feeds.
    Outputs: the views, (B, 3, S, S) float32 if they are finished, else (B, S, S, 3) uint8.
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
    return _graph(config, "cpu" if gpu is None else "mixed", finished, **settings)


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
def _graph(config: DataConfig, decoder: str, finished: bool) -> Any:
    crops = _crops(config, decoder)
    if not finished:
        return tuple(crops)
    finish = _Finish(
        run_fn=None,
        out_types=[types.FLOAT],
        in_types=[types.UINT8, types.FLOAT],
        outs_ndim=[3],
        ins_ndim=[3, 1],
        batch_processing=False,
    )
    return tuple(finish(crop, _source(view, "numbers")) for view, crop in enumerate(crops))
