"""What people use instead of fra_dist, for `peers.py`, which runs this in an environment without fra_dist.

`lightly`'s BYOL is the example of its documentation: heads of 1,024 and 256 units, SGD, cosine similarity, and its
transforms and data set in a DataLoader, with the probabilities of the published recipe.
"""

import copy
import io
import itertools
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from peer_process import serve
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from usual_transforms import usual_transform

Settings = dict[str, Any]
Views = tuple[Tensor, Tensor]


class Byol(nn.Module):
    """The module of lightly's example."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        network = torchvision.models.get_model(backbone)
        width = network.fc.in_features
        self.backbone = nn.Sequential(*list(network.children())[:-1])
        self.projection_head = BYOLProjectionHead(width, 1024, 256)
        self.prediction_head = BYOLPredictionHead(256, 1024, 256)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Predict the projection of the other view from (B, 3, S, S)."""
        return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))

    def forward_momentum(self, x: Tensor) -> Tensor:
        """Project by the target network."""
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


class LightlyStep:
    """One step of lightly's example; channels_last: with images and weights in that layout."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(0)
        self.layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
        self.bf16 = settings["dtype"] == "bfloat16"
        self.model = Byol(settings["backbone"]).to(memory_format=self.layout)
        self.criterion = NegativeCosineSimilarity()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.06)

    def __call__(self, views: Views) -> None:
        """Update the weights from two views (B, 3, S, S)."""
        model = self.model
        one, two = (view.contiguous(memory_format=self.layout) for view in views)
        update_momentum(model.backbone, model.backbone_momentum, m=0.996)
        update_momentum(model.projection_head, model.projection_head_momentum, m=0.996)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            predicted_one, target_one = model(one), model.forward_momentum(one)
            predicted_two, target_two = model(two), model.forward_momentum(two)
            first, second = self.criterion(predicted_one, target_two), self.criterion(predicted_two, target_one)
            loss = 0.5 * (first + second)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()


def lightly_input(settings: Settings) -> Iterator[Views]:
    """The data set, transforms and DataLoader of lightly's example."""
    kinds = BYOLView1Transform, BYOLView2Transform
    normal = {"mean": settings["mean"], "std": settings["std"]}
    one, two = (
        kind(
            input_size=settings["size"],
            cj_prob=view["jitter"],
            cj_bright=view["brightness"],
            cj_contrast=view["contrast"],
            cj_sat=view["saturation"],
            cj_hue=view["hue"],
            min_scale=view["crop_scale"][0],
            random_gray_scale=view["grey"],
            gaussian_blur=view["blur"],
            sigmas=tuple(view["blur_sigma"]),
            solarization_prob=view["solarise"],
            hf_prob=view["flip"],
            normalize=normal,
        )
        for kind, view in zip(kinds, settings["views"], strict=True)
    )
    data = LightlyDataset(settings["photos"], transform=BYOLTransform(one, two))
    for (one, two), *_ in _loader(data, settings, sampler=RandomSampler(data, True, 2**30)):
        yield one, two


class BothViews:
    """torchvision's transforms for the two views of a photo."""

    def __init__(self, settings: Settings, exact: bool = False) -> None:
        normal = settings["mean"], settings["std"]
        self.made = [usual_transform(view, settings["size"], *normal, exact) for view in settings["views"]]

    def __call__(self, image: Image.Image) -> Views:
        """The two views, (3, S, S) each."""
        one, two = (make(image) for make in self.made)
        return one, two


def webdataset_input(settings: Settings, exact: bool) -> Iterator[Views]:
    """webdataset over the shards that ours reads, too."""
    import webdataset

    shards = sorted(str(path) for path in Path(settings["shards"]).glob("*.tar"))
    both = BothViews(settings, exact)
    samples = webdataset.WebDataset(shards, shardshuffle=len(shards), nodesplitter=None, empty_check=False).repeat()
    yield from _loader(samples.shuffle(256).decode("pil").to_tuple("jpg").map(lambda sample: both(sample[0])), settings)


def streaming_input(settings: Settings) -> Iterator[Views]:
    """mosaicml-streaming, which has its own shards, made here from the same files."""
    from streaming import MDSWriter, StreamingDataset

    folder = Path(settings["scratch"]) / f"mds_{settings['size']}"
    with MDSWriter(out=str(folder), columns={"photo": "bytes"}) as writer:
        for path in _photos(settings):
            writer.write({"photo": path.read_bytes()})

    class Photos(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Views:
            return both(Image.open(io.BytesIO(super().__getitem__(index)["photo"])).convert("RGB"))

    both = BothViews(settings)
    batch = settings["batch"]
    data = Photos(local=str(folder), shuffle=True, batch_size=batch, epoch_size=2**16)
    while True:
        yield from _loader(data, settings)


def spdl_input(settings: Settings) -> Iterator[Views]:
    """spdl decodes in threads, in which Pillow then makes the views."""
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    both, photos = BothViews(settings), [str(path) for path in _photos(settings)]
    spdl.io.load_image(photos[0])  # in the pipeline a missing FFmpeg would fail at each photo, and never end

    def views(path: str) -> Views:
        return both(Image.fromarray(spdl.io.to_numpy(spdl.io.load_image(path))))

    def batched(some: list[Views]) -> Views:
        one, two = (torch.stack(of_view) for of_view in zip(*some, strict=True))
        return one, two

    paths = (random.choice(photos) for _ in itertools.count())
    threads = settings["threads"]
    building = PipelineBuilder().add_source(paths).pipe(views, concurrency=threads).aggregate(settings["batch"])
    pipeline = building.pipe(batched).add_sink(2).build(num_threads=threads + 1)
    with pipeline.auto_stop():
        yield from pipeline


INPUTS = {
    "lightly": lightly_input,
    "torchvision v2, webdataset": lambda settings: webdataset_input(settings, exact=True),
    "Pillow, webdataset": lambda settings: webdataset_input(settings, exact=False),
    "mosaicml-streaming": streaming_input,
    "spdl": spdl_input,
}


def steps(settings: Settings, batches: Iterable[Views]) -> Iterator[int]:
    """Do a step on each batch; yields the number of its images."""
    step = LightlyStep(settings)
    for views in batches:
        step(views)
        yield len(views[0])


def work_of(settings: Settings) -> Iterator[int]:
    """The work that the settings name: `step` (on batches that lie ready), `loop` or `input`."""
    shape = settings["batch"], 3, settings["size"], settings["size"]
    if settings["part"] == "step":
        return steps(settings, itertools.repeat((torch.randn(shape), torch.randn(shape))))
    batches = INPUTS[settings["way"]](settings)
    if settings["part"] == "loop":
        return steps(settings, batches)
    return (len(views[0]) for views in batches)


def _loader(data: Any, settings: Settings, **more: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=settings["batch"], drop_last=True, num_workers=settings["threads"], **more)


def _photos(settings: Settings) -> list[Path]:
    return sorted(Path(settings["photos"]).glob("*.jpg"))


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    torch.set_num_threads(chosen["threads"])
    serve(work_of(chosen))
