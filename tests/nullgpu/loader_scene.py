"""Batches of a loader on the null GPU: prints, as JSON, what the later ones ask of it.

Run by `test_loader_on_null_gpu.py`. Words: a folder of shards, `data.pipeline`, a mistake or none.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.config import load_config
from fra_dist.data.decoding.device_views import DeviceViews
from fra_dist.data.decoding.pipeline import ViewForm
from fra_dist.data.loading.loader import make_loader
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.kernels import force
from tests.helpers.tiny import TINY
from tests.nullgpu.null_gpu import Counters
from tests.nullgpu.step_scenes import one_rank

FORM = ViewForm(torch.bfloat16, channels_last=True)
WARM, MEASURED = 8, 12


def main() -> None:
    shards, pipeline, mistake = sys.argv[1:]
    torch.set_num_threads(1)
    proper = DeviceViews.finish
    if mistake == "pageable":
        DeviceViews.finish = lambda self, crops, params: proper(self, [crop.clone() for crop in crops], params)
    elif mistake == "synchronize":
        DeviceViews.finish = lambda self, *words: (proper(self, *words), self.stream.synchronize())[0]
    config = load_config(None, [*TINY, f"data.pipeline={pipeline}", "train.device=cuda"])
    counters, steps = Counters(), WARM + MEASURED
    with force("triton"), make_loader(config, load_manifest(shards), one_rank(), 0, steps, form=FORM) as loader:
        batches = iter(loader)
        for _ in range(WARM):
            views = next(batches).views
        with counters.during() as asked:
            for batch in batches:
                views = batch.views
    shown = [
        [str(view.dtype), view.device.type, view.is_contiguous(memory_format=torch.channels_last)] for view in views
    ]
    print(json.dumps({**asked, "views": shown}))


if __name__ == "__main__":
    main()
