"""`fra_dist.load`: photos of any kind in, embeddings and regions out."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import fra_dist
from fra_dist.api.face_model import FaceModel
from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, ConfigError, DataError
from fra_dist.eval.features.encoder import Encoder
from fra_dist.export.formats import export_model
from fra_dist.models import FRA


@pytest.fixture(scope="module")
def model() -> FaceModel:
    """FRA with four regions at 32 px."""
    torch.manual_seed(3)
    sizes = {"backbone": "tiny", "regions": 4, "width": 16, "hidden": 32, "decoder": {"layers": 1, "feedforward": 16}}
    config = parse_config({"model": sizes})
    network = FRA(config.model).online.eval()
    data = Config().data
    return FaceModel(Encoder("four regions", network.backbone, 32, data.mean, data.std, network))


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_kind_of_photo_gives_the_same(model, tmp_path):
    pixels = photo()
    path = tmp_path / "face.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [path, str(path), Image.fromarray(pixels), pixels, tensor, tensor / 255, pixels / 255]
    expected = model(pixels)
    for kind in kinds:
        found = model(kind)
        assert torch.equal(found.embedding, expected.embedding)
        assert torch.equal(found.heatmaps, expected.heatmaps)
    together = model(kinds)
    torch.testing.assert_close(together.embedding, expected.embedding.expand(len(kinds), -1))


def test_grey_photos_paths_in_arrays_and_short_floats(model, tmp_path, monkeypatch):
    grey = photo()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    tensor = torch.from_numpy(grey)
    expected = model(np.stack([grey] * 3, axis=2)).embedding
    monkeypatch.setenv("HOME", str(tmp_path))
    kinds = [grey, grey[..., None], tensor, tensor[None], tensor[None] / 255, tmp_path / "grey.png", "~/grey.png"]
    for kind in kinds:
        assert torch.equal(model(kind).embedding, expected)
    assert model(tensor[None, None].repeat(2, 1, 1, 1)).embedding.shape == (2, 16), "a batch of one channel"
    assert torch.equal(model(np.array([str(tmp_path / "grey.png")])).embedding, expected), "a column of a table"
    white = torch.ones(3, 9, 9)
    assert torch.equal(model(white.bfloat16()).embedding, model(white).embedding)


@pytest.mark.parametrize("kind", ["transparent", "palette", "16 bits", "turned"])
def test_an_open_picture_is_read_as_its_file(model, tmp_path, kind):
    pixels, path = photo(), tmp_path / ("face.jpg" if kind == "turned" else "face.png")
    exif = Image.Exif()
    if kind == "transparent":
        picture = Image.fromarray(np.dstack([pixels, photo(40, 60)[..., 0]]))
    elif kind == "palette":
        picture = Image.fromarray(pixels).quantize(8)
        picture.info["transparency"] = 3
    elif kind == "16 bits":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels)
        exif[0x0112] = 6
    picture.save(path, **({"exif": exif, "quality": 95} if kind == "turned" else {}))
    with Image.open(path) as opened:
        assert torch.equal(model(opened).embedding, model(path).embedding)


def test_shapes_and_sums_for_photos_of_different_sizes(model):
    found = model([photo(33, 90), photo(200, 41), photo(32, 32)])
    assert found.embedding.shape == (3, 16)
    assert found.region_embedding.shape == (3, 4, 16)
    assert found.heatmaps.shape[:2] == (3, 4)
    torch.testing.assert_close(found.heatmaps.sum(1), torch.ones_like(found.heatmaps[:, 0]))
    assert model.regions == 4
    assert model.image_size == 32


def test_more_photos_than_one_pass_takes_are_those_one_by_one(model, monkeypatch):
    photos = [photo(32, 32 + n) for n in range(5)]
    whole = model(photos)
    monkeypatch.setattr("fra_dist.api.face_model.BATCH", 2)
    torch.testing.assert_close(model(photos).embedding, whole.embedding)


def test_show_draws_a_row_for_each_photo(model):
    one, two = model.show(photo()), model.show([photo(), photo(50, 50)])
    assert two.height > one.height
    assert two.width == one.width
    assert np.asarray(one).std() > 10


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        ([], "no photos"),
        (np.zeros((4, 4, 4), np.uint8), "(4, 4, 4)"),
        (torch.full((3, 8, 8), 1.5), "outside 0 to 1"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        ("nowhere.jpg", "nowhere.jpg"),
        (".", r". is a folder: give its photos, .* fra_dist.embed"),
        ("https://host/a.jpg", "https://host/a.jpg is a URL"),
        (None, "photos of type NoneType: give a path"),
        (b"\xff\xd8", "photos of type bytes: give a path"),
        ([photo(), None], "photo 1 is of type NoneType: give a path"),
        ([photo(), photo(4, 300)], "photo 1 is too small, 300x4 pixels: its shorter side has 8 at the least"),
    ],
)
def test_what_is_no_photo_is_named(model, odd, word):
    with pytest.raises(DataError, match=word.replace("(", r"\(").replace(")", r"\)")):
        model(odd)


def test_a_sheet_of_nothing_and_a_small_file_are_named(model, tmp_path):
    with pytest.raises(ConfigError, match="tile=0: pictures in the sheet have 16"):
        model.show(photo(), tile=0)
    Image.fromarray(photo(1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(DataError, match=r"dot\.png is too small, 1x1 pixels"):
        model(tmp_path / "dot.png")


def test_a_damaged_file_is_named(model, tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(photo()).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        model([photo(), path])


def test_a_backbone_alone_has_features_and_no_regions():
    bare = fra_dist.load("random:tiny", image_size=40, device="cpu")
    found = bare([photo(), photo(90, 90)])
    assert found.embedding.shape == (2, found.features.shape[1])
    assert found.heatmaps is None
    assert bare.regions == 0
    with pytest.raises(CheckpointError, match="no region decoder"):
        bare.show(photo())


def test_a_network_can_be_pickled_as_other_processes_need(tmp_path):
    model = fra_dist.load("small-synthetic", device="cpu")
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(photo()).embedding, model(photo()).embedding)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"image_size": 0}, "image_size=0: it is a whole number of pixels from 16 to 2048"),
        ({"image_size": -3}, "image_size=-3"),
        ({"image_size": 64.5}, "image_size=64.5"),
        ({"normalise": "imagnet"}, "normalise='imagnet' is not one of auto, fra, imagenet"),
        ({"device": "gpu"}, "device='gpu' cannot be used"),
    ],
)
def test_what_cannot_be_asked_of_a_network_is_one_line(options, word):
    with pytest.raises(ConfigError, match=word) as refused:
        fra_dist.load("small-synthetic", **options)
    assert "\n" not in str(refused.value)


def test_a_home_is_expanded_and_other_folders_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    export_model("small-synthetic", "huggingface", tmp_path / "mine")
    export_model("small-synthetic", "network", tmp_path / "mine.safetensors")
    assert fra_dist.load("~/mine", device="cpu").regions
    assert fra_dist.FaceModel.from_pretrained("~/mine", device="cpu").regions
    assert fra_dist.FaceModel.from_pretrained(tmp_path / "mine.safetensors", device="cpu").regions
    with pytest.raises(CheckpointError, match=r"USER/NAME\); the weights of the package and runs are opened by"):
        fra_dist.FaceModel.from_pretrained("small-synthetic")
    fra_dist.make_shards("synthetic:2@32", "~/shards", workers=1)
    with pytest.raises(CheckpointError, match="shards holds shards, not a checkpoint"):
        fra_dist.load(tmp_path / "shards")
    Image.fromarray(photo()).save(tmp_path / "face.png")
    with pytest.raises(CheckpointError, match=r"face\.png cannot be read as weights: it holds none"):
        fra_dist.load(tmp_path / "face.png")
    assert fra_dist.heatmaps("small-synthetic", "~/face.png", "~/pictures").sheets == ["sheet.png"]
    fra_dist.embed("small-synthetic", "~/face.png", "~/embeddings", map="none", neighbours=0)
    with pytest.raises(CheckpointError, match="embeddings holds embeddings, not a checkpoint"):
        fra_dist.load(tmp_path / "embeddings")


def test_weights_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        fra_dist.load(tmp_path / "nothing.pth")
