"""The DALI graphs against torchvision: the same pixels within stated bounds, in 0 to 255."""

import functools
import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fra_dist.config import DataConfig, ViewConfig
from fra_dist.data.decoding.dali_pipeline import DaliPipeline
from fra_dist.data.decoding.images import probe
from fra_dist.data.decoding.pipeline import Pipeline, Request, UndecodableError, ViewForm
from fra_dist.data.decoding.torch_pipeline import TorchPipeline
from fra_dist.data.order.views import ViewParams, draw_views, views_of
from tests.helpers.odd_photos import png16, saved, turned
from tests.helpers.small_shards import jpeg, textured

CPU = torch.device("cpu")
B, SIZE = 12, 48
CONFIG = DataConfig(image_size=SIZE, threads=2, view2=ViewConfig(blur=0.1, solarise=0.5, grey=0.4))
PHOTOS = [jpeg(int(h), int(w), n) for n, (h, w) in enumerate(np.random.default_rng(0).integers(40, 160, (B, 2)))]


def request(photos: list[bytes], epoch: int = 0, config: DataConfig = CONFIG) -> Request:
    heads = [probe(photo) for photo in photos]
    heights, widths = np.array([h.height for h in heads]), np.array([h.width for h in heads])
    ids = np.arange(len(photos))
    views = (draw_views(v, 3, epoch, ids, n, heights, widths) for n, (v, _) in enumerate(views_of(config)))
    return Request(photos, heads, tuple(views))


def levels(view: Tensor, config: DataConfig = CONFIG) -> Tensor:
    """A normalised view as pixels of 0 to 255."""
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    return (view * std + mean) * 255


@pytest.fixture(scope="module", params=["once", "crops", "once, as a GPU", "crops, as a GPU"])
def dali(request: pytest.FixtureRequest) -> Iterator[DaliPipeline]:
    decode, _, as_gpu = request.param.partition(", ")
    pipeline = DaliPipeline(CONFIG.model_copy(update={"decode": decode}), CPU, B, as_gpu=bool(as_gpu))
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[TorchPipeline]:
    pipeline = TorchPipeline(CONFIG, CPU)
    yield pipeline
    pipeline.close()


def only(params: ViewParams, name: str | None) -> ViewParams:
    """Geometry and one augmentation, at its full strength on every photo."""
    count = len(params)
    none: dict[str, object] = {
        **{n: np.ones(count) for n in ("brightness", "contrast", "saturation")},
        **{n: np.zeros(count) for n in ("hue", "sigma")},
        "grey": np.zeros(count, bool),
        "solarise": np.full(count, 256, np.int16),
    }
    spread = np.linspace(-1, 1, count)
    strong: dict[str | None, object] = {
        "brightness": 1 + 0.4 * spread,
        "contrast": 1 + 0.4 * spread,
        "saturation": 1 + 0.2 * spread,
        "hue": 0.1 * spread,
        "grey": np.ones(count, bool),
        "sigma": 1.05 + 0.95 * spread,
        "solarise": np.full(count, 128, np.int16),
    }
    return replace(params, **none | ({name: strong[name]} if name else {}))


# Bounds on the mean difference of any photo, in levels, over an image of the same geometry. DALI resizes with other
# rounding (0.2), and rounds grey to the nearest where torchvision rounds down (up to 1, on both sides of its bound).
BOUNDS = {
    None: 0.4,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.6,
    "grey": 1.1,
    "sigma": 0.4,
    "solarise": 0.5,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_each_augmentation_is_torchvisions(dali: DaliPipeline, plain: TorchPipeline, name: str | None) -> None:
    base = request(PHOTOS)
    one = base._replace(params=(only(base.params[0], name), only(base.params[1], name)))
    for ours, theirs in zip(dali.redo(one), plain.redo(one), strict=True):
        assert ours.shape == (B, 3, SIZE, SIZE)
        assert ours.dtype == torch.float32
        difference = (levels(ours) - levels(theirs)).abs().mean((1, 2, 3))
        assert difference.max() < BOUNDS[name]


def test_all_augmentations_together_are_torchvisions(dali: DaliPipeline, plain: TorchPipeline) -> None:
    for epoch in range(4):
        both = request(PHOTOS, epoch)
        for ours, theirs in zip(dali.redo(both), plain.redo(both), strict=True):
            difference = (levels(ours) - levels(theirs)).abs().mean((1, 2, 3))
            assert difference.mean() < 0.6
            assert difference.max() < 2


def test_what_a_gpu_does_gives_the_same_views_to_the_bit() -> None:
    """The same crops, finished in DALI's graph or, as on a GPU, behind it: by the formula that its kernel equals."""
    whole, parts = DaliPipeline(CONFIG, CPU, B), DaliPipeline(CONFIG, CPU, B, as_gpu=True)
    for epoch in range(2):
        for ours, theirs in zip(parts.redo(request(PHOTOS, epoch)), whole.redo(request(PHOTOS, epoch)), strict=True):
            assert torch.equal(ours, theirs)
    form = ViewForm(torch.bfloat16, channels_last=True)
    narrow = DaliPipeline(CONFIG, CPU, B, form, as_gpu=True)
    for ours, theirs in zip(narrow.redo(request(PHOTOS)), whole.redo(request(PHOTOS)), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
        assert ours.is_contiguous(memory_format=torch.channels_last)
    for pipeline in (whole, parts, narrow):
        pipeline.close()


def test_the_torch_path_of_a_gpu_agrees_with_torchvision(plain: TorchPipeline) -> None:
    apart = TorchPipeline(CONFIG, CPU, as_gpu=True)
    for ours, theirs in zip(apart.redo(request(PHOTOS)), plain.redo(request(PHOTOS)), strict=True):
        difference = (levels(ours) - levels(theirs)).abs().mean((1, 2, 3))
        assert difference.max() < 1
        assert difference.mean() < 0.1
    apart.close()


def test_large_hue_shifts_go_the_short_way_round(plain: TorchPipeline, dali: DaliPipeline) -> None:
    base = request(PHOTOS)
    views = [replace(only(p, None), hue=np.linspace(-0.5, 0.5, B)) for p in base.params]
    wide = base._replace(params=(views[0], views[1]))
    for ours, theirs in zip(dali.redo(wide), plain.redo(wide), strict=True):
        assert (levels(ours) - levels(theirs)).abs().mean((1, 2, 3)).max() < 1


@pytest.mark.parametrize("as_gpu", [False, True])
def test_local_views_are_small_crops_on_every_path(as_gpu: bool) -> None:
    config = CONFIG.model_copy(update={"local_views": 2, "local_size": 20, "decode": "once" if as_gpu else "crops"})
    asked = request(PHOTOS[:5], config=config)
    dali, plain = DaliPipeline(config, CPU, 5, as_gpu=as_gpu), TorchPipeline(config, CPU, as_gpu=as_gpu)
    found, expected = dali.redo(asked), plain.redo(asked)
    assert [view.shape for view in found] == [(5, 3, SIZE, SIZE)] * 2 + [(5, 3, 20, 20)] * 2
    for ours, theirs in zip(found, expected, strict=True):
        assert (levels(ours) - levels(theirs)).abs().mean((1, 2, 3)).max() < 2
    assert not torch.equal(found[2], found[3])
    for params in asked.params[2:]:
        area = np.prod(params.box[:, 2:] - params.box[:, :2], axis=1)
        assert (area <= 0.21 * np.array([head.height * head.width for head in asked.heads])).all()
    dali.close()
    plain.close()


def test_the_torch_path_is_torchvisions_own(plain: TorchPipeline) -> None:
    """One photo by hand: crop box, flip and order reach the transforms as they should."""
    from torchvision.transforms.v2 import functional as F

    one = request(PHOTOS[:1], epoch=1)
    params = one.params[0]
    x0, y0, x1, y1 = params.box[0].tolist()
    view = torch.from_numpy(np.array(Image.open(io.BytesIO(PHOTOS[0])))).permute(2, 0, 1)[:, y0:y1, x0:x1]
    view = F.resize(view, [SIZE, SIZE], antialias=True)
    view = F.horizontal_flip(view) if params.flip[0] else view
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    values = (params.brightness, params.contrast, params.saturation, params.hue)
    for k in params.order[0]:
        view = steps[k](view, float(values[k][0]))
    view = F.rgb_to_grayscale(view, 3) if params.grey[0] else view
    view = F.gaussian_blur(view, [23, 23], [float(params.sigma[0])] * 2)  # a wider kernel than ours
    assert (levels(plain.redo(one)[0][0]) - view).abs().mean() < 0.05


def odd() -> dict[str, bytes]:
    rgb = textured(60, 50)
    exotic = io.BytesIO()
    rgb.save(exotic, "JPEG", quality=92, keep_rgb=True)  # three components that are not YCbCr
    frames = io.BytesIO()
    rgb.save(frames, "GIF", save_all=True, append_images=[textured(60, 50, 1)])
    return {
        "grey": saved(rgb.convert("L")),
        "cmyk": saved(rgb.convert("CMYK")),
        "progressive": saved(rgb, progressive=True),
        "subsampled": saved(rgb, subsampling=2, quality=90),
        "rgb jpeg": exotic.getvalue(),
        "turned": turned(6, 60, 50),
        "mirrored": turned(2, 60, 50),
        "png": saved(rgb, "PNG"),
        "png of 16 bits": png16(np.asarray(rgb)),
        "palette": saved(rgb.convert("P"), "PNG"),
        "transparent": saved(rgb.convert("RGBA"), "PNG"),
        "one bit": saved(rgb.convert("1"), "PNG"),
        "webp": saved(rgb, "WEBP"),
        "animated": frames.getvalue(),
        "bmp": saved(rgb, "BMP"),
        "tiff": saved(rgb, "TIFF"),
        "one pixel": saved(textured(1, 1)),
        "a line": saved(textured(1, 90)),
    }


def test_odd_photos_decode_alike(dali: DaliPipeline, plain: TorchPipeline) -> None:
    names, photos = list(odd()), list(odd().values())
    for first in range(0, len(photos), B):
        part = request(photos[first : first + B])  # the second is a short batch
        part = part._replace(params=(only(part.params[0], None), only(part.params[1], None)))
        for ours, theirs in zip(dali.redo(part), plain.redo(part), strict=True):
            difference = (levels(ours) - levels(theirs)).abs().mean((1, 2, 3))
            bad = {names[first + i]: float(d) for i, d in enumerate(difference) if d > 0.5}
            assert not bad


def without_tables(photo: bytes) -> bytes:
    """A JPEG whose Huffman tables are nonsense: the header is whole, no decoder can continue."""
    at = photo.index(b"\xff\xc4")
    return photo[: at + 5] + b"\xff" * 16 + photo[at + 21 :]


def pipelines() -> list[Pipeline]:
    kinds = (functools.partial(DaliPipeline, CONFIG, CPU, B), functools.partial(TorchPipeline, CONFIG, CPU))
    return [make(as_gpu=as_gpu) for make in kinds for as_gpu in (False, True)]


@pytest.mark.parametrize("kind", range(4))
def test_undecodable_photos_are_named_and_the_others_go_on(kind: int) -> None:
    pipeline = pipelines()[kind]
    cut_bitmap = saved(textured(60, 50), "BMP")[:6000]
    broken = list(PHOTOS)
    broken[3], broken[7] = without_tables(PHOTOS[3]), without_tables(PHOTOS[7])
    odd_one = list(PHOTOS)
    odd_one[5] = cut_bitmap
    expected = [pipeline.redo(request(PHOTOS, epoch))[0].clone() for epoch in range(4)]

    for photos, epoch in ((PHOTOS, 0), (broken, 1), (PHOTOS, 2), (odd_one, 1), (PHOTOS, 3)):
        pipeline.submit(request(photos, epoch))
    assert torch.equal(pipeline.collect()[0], expected[0])
    with pytest.raises(UndecodableError) as caught:
        pipeline.collect()
    assert set(caught.value.reasons) == {3, 7}
    assert all(reason and "\n" not in reason for reason in caught.value.reasons.values())
    assert torch.equal(pipeline.redo(request(PHOTOS, 1))[0], expected[1])  # while others wait
    assert torch.equal(pipeline.collect()[0], expected[2])
    with pytest.raises(UndecodableError) as caught:
        pipeline.collect()
    assert set(caught.value.reasons) == {5}
    assert torch.equal(pipeline.collect()[0], expected[3])
    pipeline.close()


def test_views_stay_as_they_are_while_later_ones_are_made() -> None:
    pipeline = DaliPipeline(CONFIG, CPU, B)
    first = pipeline.redo(request(PHOTOS, 0))
    copies = [view.clone() for view in first]
    for epoch in range(1, 5):
        pipeline.redo(request(PHOTOS, epoch))
    pipeline.close()
    assert all(torch.equal(view, copy) for view, copy in zip(first, copies, strict=True))


WITHOUT_DALI = """
import sys, torch
sys.modules["nvidia.dali"] = None  # as where it is not installed
from fra_dist.config import DataConfig
from fra_dist.data.decoding.open_pipeline import open_pipeline
print(type(open_pipeline(DataConfig(pipeline=sys.argv[1]), torch.device("cpu"), 2)).__name__)
"""


@pytest.mark.parametrize(("pipeline", "warned"), [("auto", True), ("torch", False)])
def test_doing_without_dali_is_said_unless_it_is_meant(pipeline: str, warned: bool) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_DALI, pipeline], capture_output=True, text=True)
    assert done.stdout == "TorchPipeline\n", done.stderr
    assert ("warning: DALI cannot be used" in done.stderr) == warned
