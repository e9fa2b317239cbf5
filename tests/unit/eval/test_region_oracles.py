"""Known values of what region scores stand beside: ceiling, frame of the face, random prototypes, groups of faces."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.oracles import assign_in_frame, frame_clusters, frames_of_masks, frames_of_points, mean_shape, on_map
from fra_dist.eval.region_tables import agreement, count_pixels, count_similarity
from fra_dist.eval.regions.following import follow_face
from fra_dist.eval.regions.pixel_regions import MASK_CLASSES, assign
from fra_dist.eval.settings import Settings
from fra_dist.eval.tasks import consistency, regions
from fra_dist.eval.tasks.common import TaskInput
from fra_dist.eval.tasks.region_truth import CROPS, WHOLE, faces_under_test, groups_of_yaw
from fra_dist.models.outputs import Inference
from fra_dist.synthetic import render

SIDE = 64
LEVELS = 30
"""Grey levels between two classes: a photo of these tests is its own mask, painted."""


class Perfect(nn.Module):
    """Reads the true class of every pixel from a painted photo and says so at the size of its map."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.has_regions, self.pixel_projector = side, True, None
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("prototypes", torch.zeros(len(MASK_CLASSES), 3))

    def forward(self, images: Tensor) -> Tensor:
        level = (images[:, 0] * 255 / LEVELS).round().long().clamp(0, len(MASK_CLASSES) - 1)
        shares = functional.one_hot(level, len(MASK_CLASSES)).permute(0, 3, 1, 2).float()
        return functional.adaptive_avg_pool2d(shares, self.side) * self.scale

    def infer(self, images: Tensor) -> Inference:
        maps = self(images)
        return Inference(maps, maps.mean((2, 3)), maps)


def painted(count: int, **more: Callable[[int], object]) -> FaceSet:
    """Faces whose photos are their masks; `more`: a label of face n, for example yaw."""
    masks = render(np.arange(count), SIDE).masks
    names = np.array([0, 1, 2, 3, 4, 5, 6], np.uint8)
    records = []
    for n in range(count):
        mask = names[np.minimum(masks[n], 6)]
        photo = np.repeat((mask * LEVELS)[..., None], 3, 2)
        labels = {key: value(n) for key, value in more.items()}
        split = ("train", "val", "test", "test")[n % 4]
        records.append(Record(f"{n}", split, pixels=photo, mask=lambda mask=mask: mask, **labels))
    return FaceSet("painted", Path(), tuple(records), CropRule("middle"), mask_classes=MASK_CLASSES)


def job_of(faces: FaceSet, side: int = 16) -> TaskInput:
    perfect = Perfect(side).eval()
    encoder = Encoder("perfect", perfect, SIDE, [0.0] * 3, [1.0] * 3, perfect, {"architecture": "tiny"})
    return TaskInput(encoder, prepare_faces(faces, SIDE, Cache(None)), Settings(bootstrap=0), Cache(None))


@pytest.fixture(scope="module")
def perfect() -> regions.TaskResult:
    return regions.run(job_of(painted(48, yaw=lambda n: float(7 * n % 91))))


def test_a_perfect_segmentation_reaches_the_ceiling(perfect: regions.TaskResult) -> None:
    views = [name.removeprefix("ceiling/") for name in perfect.scores if name.startswith("ceiling/")]
    assert {"parts_nmi", "parts_nmi/crops", "parts_nmi/yaw_0_30", "parts_nmi/yaw_60_90"} <= set(views)
    for view in views:
        reached, ceiling = (perfect.scores[f"{way}/{view}"].value for way in ("heatmaps", "ceiling"))
        blurred = 0.08 if view.endswith(CROPS) else 0.01  # scaling a painted photo mixes neighbouring classes
        assert reached == pytest.approx(ceiling, abs=blurred), view
    assert 0.3 < perfect.scores["ceiling/parts_nmi"].value < 0.95


def test_random_prototypes_score_next_to_nothing_beside_it(perfect: regions.TaskResult) -> None:
    rng = np.random.default_rng(0)
    masks = job_of(painted(24)).prepared.masks(range(24))[0]
    noise = torch.from_numpy(rng.standard_normal((24, 32, 16, 16)).astype(np.float32))
    directions = torch.from_numpy(rng.standard_normal((8, 32)).astype(np.float32))
    tables = count_similarity(torch.einsum("ndhw,qd->nqhw", noise, directions), masks, len(MASK_CLASSES))
    found = agreement(tables, MASK_CLASSES)
    assert all(found[name](np.ones(24)) < 0.02 for name in ("nmi", "parts_nmi"))
    assert perfect.scores["random_prototypes/nmi"].value < perfect.scores["ceiling/nmi"].value


def test_the_ceiling_rises_with_the_map_to_one() -> None:
    masks = render(np.arange(12), 32).masks.astype(np.uint8)
    masks[masks > 6] = 6
    found = []
    for side in (2, 4, 8, 16, 32):
        tables = count_similarity(on_map(masks, 7, (side, side)), masks, 7)
        found.append(agreement(tables, MASK_CLASSES)["nmi"](np.ones(12)))
    assert found == sorted(found)
    assert found[0] < 0.4
    assert found[-1] == pytest.approx(1.0)


def moved_parts(count: int) -> NDArray[np.uint8]:
    """A mask of four parts, at another place and of another size in each face."""
    rng = np.random.default_rng(0)
    out = np.full((count, 64, 64), 2, np.uint8)
    for mask in out:
        unit, top, left = rng.integers(3, 8), rng.integers(0, 8), rng.integers(0, 8)
        for row, name in enumerate((3, 4, 5, 6)):
            y, x = top + 2 * row * unit, left + (row % 2) * 2 * unit
            mask[y : y + unit, x : x + 2 * unit] = name
    return out


def parts_nmi(tables: NDArray[np.int64]) -> float:
    return agreement(tables, MASK_CLASSES, whole=False)["parts_nmi"](np.ones(len(tables)))


def test_the_frame_of_a_face_moves_with_it() -> None:
    masks = moved_parts(20)
    frames = frames_of_masks(masks, MASK_CLASSES)
    centres = frame_clusters(masks, MASK_CLASSES, frames, 4, seed=0)
    assert centres is not None
    assert parts_nmi(count_pixels(assign_in_frame(frames, centres, 64), masks, 4, 7)) > 0.97
    still = frames_of_masks(np.full_like(masks, 2), MASK_CLASSES)  # no parts: as it lies
    assert still.bring(0, np.array([0.25, 0.75])) == pytest.approx([0.25, 0.75])
    fixed = frame_clusters(masks, MASK_CLASSES, still, 4, seed=0)
    assert fixed is not None
    assert parts_nmi(count_pixels(assign_in_frame(still, fixed, 64), masks, 4, 7)) < 0.7
    assert frame_clusters(np.full_like(masks, 2), MASK_CLASSES, still, 4, seed=0) is None


@given(st.integers(0, 10**6))
def test_landmarks_bring_a_face_to_the_mean_shape_whatever_moved_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.uniform(0, 1, (6, 2))
    turn = np.eye(2) + rng.uniform(-0.4, 0.4, (3, 2, 2))
    points = shape @ turn.transpose(0, 2, 1) + rng.uniform(-1, 1, (3, 1, 2))
    frames = frames_of_points(points, shape)
    for n in range(3):
        assert frames.bring(n, points[n]) == pytest.approx(shape, abs=1e-6)
    assert np.sqrt((mean_shape(shape[None]) ** 2).sum(-1).mean()) == pytest.approx(1)


def test_groups_of_yaw_take_their_lower_end_and_leave_out_what_is_not_known() -> None:
    found = groups_of_yaw(np.array([0.0, -29.9, 30, -59, 60, -90, np.nan]))
    assert {name: np.flatnonzero(inside).tolist() for name, inside in found.items()} == {
        "yaw_0_30": [0, 1], "yaw_30_60": [2, 3], "yaw_60_90": [4, 5],
    }  # fmt: skip
    assert groups_of_yaw(np.array([np.nan, np.nan])) == {}


def test_scores_of_a_group_are_those_of_its_faces(perfect: regions.TaskResult) -> None:
    inside = [n for n in range(48) if n % 4 > 1 and 7 * n % 91 < 30]
    assert perfect.scores["heatmaps/parts_nmi/yaw_0_30"].count == len(inside)
    faces = painted(48)
    kept = tuple(r for n, r in enumerate(faces.records) if n % 4 < 2 or n in inside)
    alone = regions.run(job_of(FaceSet("some", Path(), kept, faces.crop, mask_classes=faces.mask_classes)))
    expected = alone.scores["heatmaps/parts_nmi"].value
    assert perfect.scores["heatmaps/parts_nmi/yaw_0_30"].value == pytest.approx(expected)
    assert not any("yaw" in name for name in alone.scores)


def test_crops_cut_photo_and_mask_alike() -> None:
    job = job_of(painted(16))
    under = faces_under_test(job, job.prepared.places("test"))
    whole, crops = under[WHOLE], under[CROPS]
    assert crops.boxes is not None
    assert (crops.boxes[:, :2] >= 0).all()
    assert (crops.boxes[:, :2] + crops.boxes[:, 2:] <= 1).all()
    seen = crops.photos[:, :, :, 0].repeat(2, 1).repeat(2, 2) / LEVELS
    assert (np.abs(seen - crops.masks) < 0.5).mean() > 0.9
    assert (np.abs(seen - whole.masks) < 0.5).mean() < 0.8


@given(st.integers(1, 9), st.integers(0, 10**6))
def test_the_largest_similarity_wins(regions: int, seed: int) -> None:
    similarity = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, regions, 3, 4)))
    assert (assign(similarity, (3, 4)) == similarity.float().argmax(1).numpy()).all()


def prepared_of(*identities: str | None) -> PreparedFaces:
    photo = np.zeros((16, 16, 3), np.uint8)
    records = tuple(Record(str(n), "test", pixels=photo, identity=one) for n, one in enumerate(identities))
    return prepare_faces(FaceSet("x", Path(), records, CropRule("middle")), 16, Cache(None))


def test_people_are_drawn_where_known_and_faces_elsewhere() -> None:
    places = np.arange(4)
    mixed = prepared_of("a", None, "a", None)
    who = mixed.people(places)
    assert who is not None
    assert who[0] == who[2]
    assert len({int(n) for n in who}) == 3
    assert mixed.drawn(places) == "1 people and 2 faces of people not known"
    assert prepared_of("a", "b", "b", "a").drawn(places) == "2 people"
    nobody = prepared_of(None, None, None, None)
    assert nobody.people(places) is None
    assert nobody.drawn(places) == "4 faces (people are not known)"


@pytest.mark.parametrize(("way", "stable"), [("face_frame", 0.95), ("ceiling", 0.6)])
def test_regions_that_know_the_landmarks_follow_the_face(way: str, stable: float) -> None:
    faces = render(np.arange(24), 64)
    points = faces.landmarks.astype(float) / 64
    unit = np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)
    label = consistency.oracles_of(points, 6, (8, 8), seed=0)[way]
    found = {key: np.nanmean(v) for key, v in follow_face(faces.images, points, unit, label, 6).items()}
    assert found["flip/follows"] == 1
    assert found["flip/stable"] > 0.99
    assert found["crop/stable"] > stable
    assert found["crop/distance"] < 0.12
    assert found["pose/spread"] < 0.2
