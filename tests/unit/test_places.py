"""One convention of places: pixel i of a row covers i to i + 1. A spot whose place is known goes through every path.

The spot's centroid is measured to a few hundredths of a pixel, so half a pixel anywhere shows.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fra_dist.api.face_model import load
from fra_dist.config import DataConfig
from fra_dist.data.decoding.dali_pipeline import DaliPipeline
from fra_dist.data.decoding.images import decode, probe
from fra_dist.data.decoding.pipeline import Pipeline, Request
from fra_dist.data.decoding.torch_pipeline import TorchPipeline
from fra_dist.data.making.cleaning import PhotoRules, clean_photo
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.face_crop import TEMPLATE, FaceCropRule, crop_place
from fra_dist.data.order.views import draw_views, views_of
from fra_dist.eval import miniatures, oracles
from fra_dist.eval.datasets import READERS
from fra_dist.eval.datasets.common.crop_rules import Square, cut_mask, cut_photo, cut_points
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES, draw_polygons
from fra_dist.eval.embed.photo_stream import EncodedPhoto, decoded
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import prepare_faces
from fra_dist.eval.readers.finetune import draw_transforms, transform_points, warp
from fra_dist.losses.geometry import Placement, across_views
from fra_dist.report.overlay import upsample
from fra_dist.report.user_photos import Photo, read_square, scale

SIGMA = 7.0
Place = tuple[float, float]


def spotted(height: int, width: int, place: Place, sigma: float = SIGMA) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with a bright spot at x, y on black."""
    x, y = (np.arange(count) + 0.5 - at for count, at in zip((width, height), place, strict=True))
    levels = 250 * np.exp(-(x[None] ** 2 + y[:, None] ** 2) / (2 * sigma**2))
    return np.repeat(levels.round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(levels: NDArray[np.float64] | NDArray[np.uint8], least: float = 0.05) -> NDArray[np.float64]:
    """x and y of the spot in a picture (H, W), in its pixels."""
    weight = np.asarray(levels, np.float64)
    weight = np.where(weight > least * weight.max(), weight, 0)
    total = weight.sum()
    x, y = np.arange(weight.shape[1]) + 0.5, np.arange(weight.shape[0]) + 0.5
    return np.array([weight.sum(0) @ x, weight.sum(1) @ y]) / total


def encoded(pixels: NDArray[np.uint8], kind: str = "JPEG", orientation: int = 1) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 97, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(out, kind, exif=exif, **options)
    return out.getvalue()


# shards make


@pytest.mark.parametrize("place", [(200.0, 150.5), (270.25, 210.75)])
@pytest.mark.parametrize("size", [200, 57, 24])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_aligned_crops(place: Place, size: int, angle: float) -> None:
    turned = np.radians(angle)
    linear = 220 * np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    five = (TEMPLATE - 0.5) @ linear.T + (240, 190)
    face, rule = Face(None, tuple(five.ravel())), FaceCropRule("align", 1.2, size)
    photo = clean_photo(encoded(spotted(380, 480, place)), PhotoRules(crop=rule, quality=97), face)
    matrix = crop_place(face, rule, 480, 380)
    wanted = np.linalg.solve(matrix[:, :2], np.array(place) - matrix[:, 2]) * size
    assert np.allclose(centroid(decode(photo.jpeg)[..., 0]), wanted, atol=0.06)


def test_the_published_template_is_met_as_opencv_meets_it() -> None:
    """A spot on the nose lands where the template for OpenCV, which counts pixels from the middle, has it."""
    five = (TEMPLATE - 0.5) * 300 + 200
    face = Face(None, tuple(five.ravel()))
    pixels = spotted(400, 400, tuple(five[2]))
    photo = clean_photo(encoded(pixels), PhotoRules(crop=FaceCropRule("align", 1.0, 112), quality=97), face)
    assert np.allclose(centroid(decode(photo.jpeg)[..., 0]) - 0.5, [56.03, 71.74], atol=0.05)


@pytest.mark.parametrize("size", [None, 100, 33])
def test_box_crops(size: int | None) -> None:
    face, rule, place = Face((140.3, 90.6, 151.0, 120.0)), FaceCropRule("box", 1.3, size), (231.4, 170.2)
    photo = clean_photo(encoded(spotted(300, 420, place)), PhotoRules(crop=rule, quality=97), face)
    matrix = crop_place(face, rule, 420, 300)
    wanted = (np.array(place) - matrix[:, 2]) / matrix[0, 0] * photo.width
    assert np.allclose(centroid(decode(photo.jpeg)[..., 0]), wanted, atol=0.06)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_photos(kind: str, orientation: int) -> None:
    """Near the last corner of a photo with odd sides, of which a decoder that halves sees one column too many."""
    place = (960.4, 718.9)
    pixels = spotted(765, 1003, place, 12.0)
    back = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    stored = Image.fromarray(pixels) if back == 1 else Image.fromarray(pixels).transpose(Image.Transpose(turns[back]))
    photo = clean_photo(encoded(np.asarray(stored), kind, orientation), PhotoRules(size=110, quality=97))
    assert (photo.height, photo.width) == (110, round(1003 * 110 / 765))
    wanted = np.array(place) * (photo.width / 1003, photo.height / 765)
    assert np.allclose(centroid(decode(photo.jpeg)[..., 0]), wanted, atol=0.04)


# views


@pytest.fixture(params=["torch", "once", "crops", "once, as a GPU"])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    config = DataConfig(image_size=56, threads=1)
    if request.param == "torch":
        return TorchPipeline(config, torch.device("cpu"))
    decode, _, as_gpu = request.param.partition(", ")
    return DaliPipeline(config.model_copy(update={"decode": decode}), torch.device("cpu"), 4, as_gpu=bool(as_gpu))


def test_views(pipeline: Pipeline) -> None:
    config, place = DataConfig(image_size=56), (130.6, 101.3)
    photos = [encoded(spotted(220, 260, place, 9.0)) for _ in range(4)]
    heads = [probe(photo) for photo in photos]
    views = [draw_views(v, 1, 0, np.arange(4), n, [220] * 4, [260] * 4) for n, (v, _) in enumerate(views_of(config))]
    boxes = np.array([[0, 0, 260, 220], [51, 20, 206, 199], [90, 71, 171, 140], [64, 50, 190, 151]], np.int32)
    plain = {name: np.ones(4) for name in ("brightness", "contrast", "saturation")} | {
        "hue": np.zeros(4), "sigma": np.zeros(4), "grey": np.zeros(4, bool), "solarise": np.full(4, 256, np.int16)
    }  # fmt: skip
    flips = np.array([False, True, False, True])
    params = tuple(replace(view, box=boxes, flip=flips, **plain) for view in views)
    for view in pipeline.redo(Request(photos, heads, params)):
        std, mean = (torch.tensor(v).view(3, 1, 1) for v in (config.std, config.mean))
        shown = ((view * std + mean) * 255).mean(1).numpy()
        for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            share = np.array([(place[0] - x0) / (x1 - x0), (place[1] - y0) / (y1 - y0)])
            share[0] = 1 - share[0] if flips[n] else share[0]
            assert np.allclose(centroid(shown[n].clip(0)), share * 56, atol=0.05), n
    pipeline.close()


def test_what_the_loss_knows_of_views() -> None:
    """An assignment is carried from one view to the other to where the photo has it."""
    placement = Placement(torch.tensor([[[10, 5, 106, 101]], [[30, 20, 94, 84]]]), torch.tensor([[False], [True]]))
    place, size = np.array([60.0, 50.0]), 32
    first = np.array([(place[0] - 10) / 96, (place[1] - 5) / 96]) * size
    second = np.array([1 - (place[0] - 30) / 64, (place[1] - 20) / 64]) * size
    maps = [spotted(size, size, tuple(at), 2.5)[..., 0] for at in (first, second)]
    assignment = torch.from_numpy(np.stack(maps)).double()[:, None, None]
    found, inside, _ = across_views(assignment, placement)
    for n, at in enumerate((first, second)):
        levels = (found[n, 0, 0] * inside[n, 0]).numpy()
        assert np.allclose(centroid(levels), at, atol=0.06)


# evaluation, embeddings, pictures


@pytest.mark.parametrize("square", [Square(0, 0, 220), Square(30.3, 12.7, 150.6), Square(-20.5, 40.25, 190.5)])
@pytest.mark.parametrize("size", [224, 64])
def test_crops_masks_and_points_of_evaluation(square: Square, size: int) -> None:
    place = (112.6, 121.3)
    pixels = spotted(220, 240, place)
    wanted = cut_points(np.array([place]), square)[0]
    assert np.allclose(wanted, (np.array(place) - (square.x, square.y)) / square.side)
    assert np.allclose(centroid(cut_photo(pixels, square, size)[..., 0]) / size, wanted, atol=0.001)
    small = spotted(110, 120, (place[0] / 2, place[1] / 2), SIGMA / 2)  # a mask may be smaller than its photo
    for levels, bound in ((pixels, 0.003), (small, 0.005)):
        cut = cut_mask((levels[..., 0] > 20).astype(np.uint8), square, (220, 240), size)
        assert np.allclose(centroid(cut == 1) / size, wanted, atol=bound)


@pytest.mark.parametrize(("height", "width"), [(200, 261), (301, 200)])
def test_embedded_photos_notebooks_and_heatmaps(tmp_path: Path, height: int, width: int) -> None:
    place = (width / 2 + 20.3, height / 2 - 31.6)
    pixels = spotted(height, width, place)
    side = min(height, width)
    corner = np.array([(width - side) // 2, (height - side) // 2])
    wanted = (np.array(place) - corner) / side * 64
    found = decoded(0, EncodedPhoto("a", "", encoded(pixels)), 64)
    assert found.square is not None
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(pixels))
    photo = read_square(path)
    assert isinstance(photo, Photo)
    seen = [found.square, load("random:tiny", image_size=64).squares(path)[0], scale(photo.square, 64)]
    for square in seen:
        assert np.allclose(centroid(square[..., 0]), wanted, atol=0.04)


def test_heatmaps_lie_where_the_map_has_them() -> None:
    heatmap = torch.from_numpy(spotted(28, 28, (11.3, 17.8), 2.0)[..., 0]).float()[None, None]
    large = upsample(heatmap, 224)[0, 0].numpy()
    assert np.allclose(centroid(large) / 8, [11.3, 17.8], atol=0.03)


def test_augmented_faces_and_their_points() -> None:
    generator = torch.Generator().manual_seed(0)
    transform, mirrored = draw_transforms(8, generator)
    place = np.array([45.3, 52.6])
    images = torch.from_numpy(spotted(96, 96, tuple(place), 4.0)).permute(2, 0, 1)[None].repeat(8, 1, 1, 1).float()
    seen: Tensor = warp(images, transform)
    points = torch.from_numpy(place / 96).float().expand(8, 1, 2)
    moved = transform_points(points, transform, mirrored, np.array([0]))[:, 0].numpy() * 96
    for n in range(8):
        assert np.allclose(centroid(seen[n, 0].numpy()), moved[n], atol=0.06)


def test_polygons_are_drawn_around_their_points() -> None:
    """The mouth of a face is a polygon whose middle is known."""
    draws = np.random.default_rng(0)
    off = []
    for _ in range(200):
        points = np.full((68, 2), 0.5)
        points[:27] = 0.5 + 0.45 * np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 27)), np.sin(t)], -1)
        middle, round_ = draws.uniform(0.35, 0.65, 2), np.linspace(0, 2 * np.pi, 12, endpoint=False)
        points[48:60] = middle + np.array([0.12, 0.08]) * np.stack([np.cos(round_), np.sin(round_)], -1)
        mask = draw_polygons(points, SCHEMES["ibug68"], 128)
        off.append(centroid(mask == 4) - middle * 128)
    assert np.abs(np.mean(off, axis=0)).max() < 0.06


def test_the_frame_of_faces() -> None:
    """A place that all faces share in the frame is found in each of their masks."""
    draws = np.random.default_rng(0)
    shape = draws.uniform(-1, 1, (20, 2))
    angle, sizes, middles = draws.uniform(-0.5, 0.5, 5), draws.uniform(0.2, 0.4, 5), draws.uniform(0.4, 0.6, (5, 2))
    turns = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    points = np.einsum("nij,pj->npi", turns * sizes[:, None, None], shape) + middles[:, None]
    frames = oracles.frames_of_points(points, shape)
    distant = np.stack([np.array([np.cos(t), np.sin(t)]) * 0.8 for t in np.linspace(0, 2 * np.pi, 8, endpoint=False)])
    regions = oracles.assign_in_frame(frames, np.concatenate([[[0.0, 0.0]], distant]), 128)
    for n in range(5):
        assert np.allclose(centroid(regions[n] == 0) / 128, middles[n], atol=0.002)


# labels of data sets

RAW = {  # file of a face, its line and word where the landmark's x stands, the landmark, number of the first pixel
    "wflw": ("WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt", 0, 108, 54, 0),
    "300w": ("helen/testset/0.pts", 33, 0, 30, 1),
    "lapa": ("test/landmarks/0_0.txt", 55, 0, 54, 0),
    "celeba": ("Anno/list_landmarks_align_celeba.txt", -1, 5, 2, 0),
}


@pytest.mark.parametrize("name", RAW)
def test_labels_of_data_sets(tmp_path: Path, name: str) -> None:
    """A spot where the file says that the nose is, counted as that set counts, is where the reader has the landmark."""
    miniatures.WRITERS[name](tmp_path, 6, 3)
    file, line, word, landmark, first = RAW[name]
    words = (tmp_path / file).read_text().splitlines()[line].split()
    place = np.array(words[word : word + 2], float) - first + 0.5
    faces = READERS[name](tmp_path)
    names = {"wflw": words[-1], "300w": "helen/testset/0.jpg", "lapa": "test/0_0.jpg", "celeba": words[0]}
    record = next(one for one in faces.records if one.name.partition("#")[0] == names[name])
    assert record.image is not None
    height, width = decode(record.image.read_bytes()).shape[:2]
    record.image.write_bytes(encoded(spotted(height, width, tuple(place), 3.0), "PNG"))
    prepared = prepare_faces(replace(faces, records=(record,)), 128, Cache(None))
    assert np.allclose(centroid(prepared.photos[0, ..., 0]) / 128, prepared.points()[0, landmark], atol=0.001)
