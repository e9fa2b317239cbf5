"""Every task on miniatures, and its measures on arrays small enough to count by hand."""

import json

import numpy as np
import pytest
import torch

from fra_dist.config import parse_config
from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.features.encoder import Encoder, extract
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.miniatures import write_miniature
from fra_dist.eval.regions.following import follow_face, pose_spread
from fra_dist.eval.results import markdown_row, run_task, write_result
from fra_dist.eval.settings import Settings, TaskEntry, checked, load_suite
from fra_dist.eval.tasks import alignment, attributes, regions, verification
from fra_dist.eval.tasks.consistency import by_similarity
from fra_dist.eval.tasks.expression import confusion_matrix
from fra_dist.models.backbone import build_backbone
from fra_dist.models.fra import FRA
from fra_dist.synthetic import render

MODEL = {
    "model": {
        "backbone": "tiny", "regions": 4, "width": 16, "hidden": 32,
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    }
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Encoder("tiny", build_backbone("tiny").eval(), 32, [0.5] * 3, [0.2] * 3, None, {"architecture": "tiny"})


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    network = FRA(parse_config(MODEL).model).eval().online
    return Encoder("fra", network.backbone, 32, [0.5] * 3, [0.2] * 3, network, {"architecture": "tiny"})


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    home, made = tmp_path_factory.mktemp("minis"), set()

    def folder(name, count=16):
        if name not in made:
            write_miniature(name, home / name, count)
            made.add(name)
        return str(home / name)

    return folder


def entry(task, name, data, **settings):
    return TaskEntry(task=task, dataset=name, data=data, settings=Settings(**{"labels": (100,), **settings}))


def test_expression(backbone, mini, tmp_path):
    tune = {"epochs": 1, "batch": 8}
    told = entry("expression", "rafdb", mini("rafdb"), labels=(100,), modes=("linear", "knn", "finetune"), tune=tune)
    before = {name: value.clone() for name, value in backbone.backbone.state_dict().items()}
    result, document = run_task(backbone, told, Cache(tmp_path / "cache"))
    assert all(torch.equal(before[name], value) for name, value in backbone.backbone.state_dict().items())
    assert set(result.scores) == {
        f"{mode}/100%/{score}" for mode in ("linear", "knn", "finetune") for score in ("accuracy", "balanced")
    }
    table = np.array(document["details"]["linear/100%"]["confusion_of_draw_0"])
    assert table.sum() == 8
    assert result.scores["linear/100%/accuracy"].value == pytest.approx(table.trace() / 8)
    write_result(tmp_path / "out", result, document)
    read = json.loads((tmp_path / "out/result.json").read_text(), parse_constant=pytest.fail)
    assert read["dataset"]["crop"] == {"source": "middle", "scale": 1.0, "down": 0.0, "size": 32}
    assert read["settings"]["seed"] == 0
    assert torch.__version__.startswith(read["versions"]["torch"])
    assert (tmp_path / "out/confusion-knn-100.png").stat().st_size > 1000
    assert len((tmp_path / "out/row.md").read_text().splitlines()) == 3
    again, _ = run_task(backbone, told, Cache(tmp_path / "cache"))
    assert again.scores == result.scores


def test_expression_with_a_share_of_the_labels(backbone, mini):
    told = entry("expression", "csv", mini("csv", 40), labels=(50,), draws=2, modes=("linear", "knn"), reader="ridge")
    result, document = run_task(backbone, told, Cache(None))
    assert len(document["details"]["knn/50%"]["accuracy_by_draw"]) == 2
    assert 0 <= result.scores["linear/50%/accuracy"].value <= 1


def test_attributes_and_age(backbone, mini):
    told = entry("attributes", "csv", mini("csv", 40), modes=("linear", "finetune"), tune={"epochs": 1, "batch": 16})
    result, document = run_task(backbone, told, Cache(None))
    assert {name.split("/")[2] for name in result.scores} == {"accuracy", "balanced", "auc", "age_mae"}
    assert set(document["details"]["linear/100%"]) == {"male", "smiling"}
    assert not result.scores["linear/100%/age_mae"].higher_is_better
    assert 0 < result.scores["linear/100%/age_mae"].value < 60


@pytest.mark.parametrize(
    ("name", "norm"), [("wflw", "inter_ocular"), ("aflw19", "diagonal"), ("celeba", "inter_pupil")]
)
def test_alignment(name, norm, backbone, mini):
    result, document = run_task(backbone, entry("alignment", name, mini(name), modes=("linear",)), Cache(None))
    assert document["details"]["norm"] == norm
    key = f"linear/100%/nme_{norm}"
    assert {key, f"{key}/fr@8%", f"{key}/auc@10%"} <= set(result.scores)
    if name == "wflw":
        assert f"{key}/expression" in result.scores
    assert all("@" not in column for column in result.columns)


@pytest.mark.slow
def test_a_fine_tuned_landmark_head_beats_the_mean_face(backbone, tmp_path):
    write_miniature("300w", tmp_path / "w", count=24)
    told = entry("alignment", "300w", str(tmp_path / "w"), modes=("finetune",), loss="smooth_l1",
                 tune={"epochs": 10, "batch": 8, "lr": 3e-3, "warmup_epochs": 1})  # fmt: skip
    result, _ = run_task(backbone, told, Cache(None))
    assert result.scores["finetune/100%/mae_of_side"].value < 0.15  # 0.19 at the start
    assert "finetune/100%/nme_inter_ocular/challenging" in result.scores


def test_verification(whole, mini):
    for embedding in ("pooled", "projected"):
        told = entry("verification", "lfw", mini("lfw", 20), embedding=embedding)
        result, document = run_task(whole, told, Cache(None))
        assert document["details"]["pairs"] == 40
        assert len(document["details"]["cosine"]["accuracy_by_fold"]) == 10
        assert result.scores["cosine/accuracy"].value > 0.4


def test_regions_and_consistency(whole, mini):
    result, document = run_task(whole, entry("regions", "lapa", mini("lapa")), Cache(None))
    kinds = {name.split("/")[0] for name in result.scores}
    assert kinds == {
        "heatmaps", "clusters", "random_clusters", "random_prototypes", "position", "position_in_parts", "ceiling",
        "face_frame", "probe",
    }  # fmt: skip
    assert {name for name in result.scores if name.startswith("ceiling/parts_nmi")} == {
        f"ceiling/parts_nmi{view}" for view in ("", "/crops", "/polygons")
    }
    assert document["details"]["regions"] == 4
    assert 0 <= result.scores["probe/miou"].value <= 1
    result, document = run_task(whole, entry("regions", "wflw", mini("wflw"), regions=5), Cache(None))
    assert document["details"]["truth"].startswith("polygons")
    result, _ = run_task(whole, entry("consistency", "wflw", mini("wflw")), Cache(None))
    assert len([name for name in result.scores if name.startswith("heatmaps/")]) == 6


def test_what_a_set_lacks_is_one_line(backbone, mini):
    for task, name, says in (
        ("expression", "wflw", "no expressions"),
        ("attributes", "rafdb", "neither attributes nor ages"),
        ("alignment", "rafdb", "no landmarks"),
        ("regions", "rafdb", "neither masks nor landmarks"),
        ("consistency", "rafdb", "no landmarks"),
        ("verification", "rafdb", "neither pairs nor known people"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            run_task(backbone, entry(task, name, mini(name)), Cache(None))
        assert "\n" not in str(caught.value)


def test_features_are_kept_by_weights_and_faces(backbone, mini, tmp_path):
    from fra_dist.eval.datasets import open_set
    from fra_dist.eval.features.prepared_faces import prepare_faces

    cache = Cache(tmp_path)
    faces = prepare_faces(open_set("rafdb", mini("rafdb")), 32, cache)
    first = extract(backbone, faces, cache)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split("-")[0] for name in kept] == ["features", "photos"]
    second = extract(backbone, prepare_faces(open_set("rafdb", mini("rafdb")), 32, cache), cache)
    assert isinstance(second.pooled, np.memmap)
    assert (first.pooled == second.pooled).all()
    maps = backbone.maps(faces.photos[:3])
    assert first.pooled[:3] == pytest.approx(maps.mean((2, 3)).numpy(), abs=2e-3)
    other = Encoder("x", backbone.backbone, 32, [0.4] * 3, [0.2] * 3, None, {})
    extract(other, faces, cache)
    assert len(list(tmp_path.iterdir())) == 3


def test_confusion_counts_true_by_row():
    assert confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3).tolist() == [
        [1, 1, 0],
        [0, 1, 0],
        [1, 0, 0],
    ]


def test_attribute_scores_by_hand():
    truth = np.array([[1, 1], [0, -1], [0, 1], [1, 1]])
    outputs = np.array([[[2.0, 1], [1, 9], [-1, -1], [3, 1]]])
    found, each = attributes.score_signs(outputs, truth, ("x", "y"))
    ones = np.ones(4)
    assert each["x"] == pytest.approx({"accuracy": 3 / 4, "balanced": (1 + 0.5) / 2, "auc": 1.0, "share": 0.5})
    assert each["y"]["accuracy"] == pytest.approx(2 / 3)
    assert found["accuracy"](ones) == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert found["auc"](ones) == pytest.approx(1.0)  # y has no face without it


def test_alignment_measures_by_hand():
    errors = np.array([0.02, 0.06, 0.10, 0.30])
    assert alignment.failure_rate(0.08)(errors).mean() == pytest.approx(0.5)
    assert alignment.curve_area(0.10)(errors).mean() == pytest.approx((0.8 + 0.4 + 0 + 0) / 4)
    grid = np.linspace(0, 0.1, 100001)
    under = np.trapezoid((errors[:, None] <= grid).mean(0), grid) / 0.1
    assert alignment.curve_area(0.10)(errors).mean() == pytest.approx(under, abs=1e-4)
    truth = np.zeros((1, 2, 2))
    assert alignment.face_errors(truth + np.array([3.0, 4.0]), truth) == pytest.approx([5.0])


def test_verification_measures_by_hand():
    similarity = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.1, 0.0])
    same = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    ones = np.ones(8)
    assert verification.best_threshold(similarity, same) in (pytest.approx(0.75), pytest.approx(0.35))
    assert verification.accepted_at(similarity, same, 0.0)(ones) == pytest.approx(2 / 3)
    assert verification.accepted_at(similarity, same, 0.19)(ones) == pytest.approx(2 / 3)
    assert verification.accepted_at(similarity, same, 0.2)(ones) == pytest.approx(1.0)
    false, true = verification.curve(similarity, same)
    assert true.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1, 1, 1])
    assert false[-1] == 1
    hits, thresholds = verification.fold_decisions(np.array([0.9, 0.1, 0.9, 0.5]), np.array([1, 0, 1, 0], bool),
                                                   np.array([0, 0, 1, 1]))  # fmt: skip
    assert thresholds == pytest.approx([0.7, 0.5])
    assert hits.tolist() == [True, True, True, False]  # 0.5 >= 0.5, the threshold of the other fold


def test_equal_similarities_share_a_threshold():
    similarity, same = np.array([0.5, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0], bool)
    assert verification.best_threshold(similarity, same) == pytest.approx(0.3)
    assert verification.accepted_at(similarity, same, 0.1)(np.ones(4)) == 0.0


def test_shared_people_of_folds_are_refused(backbone, mini):
    from dataclasses import replace

    from fra_dist.eval.datasets import open_set
    from fra_dist.eval.features.prepared_faces import prepare_faces
    from fra_dist.eval.tasks.common import TaskInput

    faces = open_set("lfw", mini("lfw", 20))
    mixed = replace(faces, pairs=(*faces.pairs, replace(faces.pairs[0], fold=5)))
    with pytest.raises(DataError, match="is in folds 1 and 6"):
        verification.run(TaskInput(backbone, prepare_faces(mixed, 32, Cache(None)), Settings(), Cache(None)))


def test_region_tables_and_their_scores():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[:, 4:] = 1
    masks[1, 0] = 255
    perfect = torch.zeros(2, 2, 8, 8)
    perfect[:, 0, :4] = perfect[:, 1, 4:] = 1
    tables = regions.count_tables(np.zeros((2, 8, 8, 3), np.uint8), masks, lambda some: perfect[: len(some)], 2, 2)
    assert tables.tolist() == [[[32, 0], [0, 32]], [[24, 0], [0, 32]]]
    found = regions.agreement(tables, ("background", "skin"))
    assert {key: found[key](np.ones(2)) for key in ("nmi", "ari", "miou")} == pytest.approx(
        {"nmi": 1, "ari": 1, "miou": 1}
    )
    assert "parts_nmi" not in found
    shares, counted = regions.class_shares(masks, 2, (2, 2))
    assert shares[0, :, 0, 0].tolist() == [1, 0]
    assert counted.all()


def test_fixed_regions_do_not_follow_a_face():
    """Halves of the picture stay where they are; halves of the face that move with it follow."""
    faces = render(np.arange(12), 64)
    points = faces.landmarks.astype(float) / 64
    photos = faces.images
    unit = np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)
    side = torch.linspace(-1, 1, 64)
    halves = torch.stack([-side.expand(64, 64), side.expand(64, 64)])

    found = follow_face(photos, points, unit, by_similarity(lambda some: halves.expand(len(some), -1, -1, -1)), 2)
    assert np.nanmean(found["flip/follows"]) < 0.2
    assert np.nanmean(found["flip/stable"]) < 0.2

    marked = photos.copy()
    marked[:, :, :32, 0], marked[:, :, 32:, 0] = 0, 255  # redness tells the person's sides

    def by_colour(some):
        red = torch.from_numpy(np.ascontiguousarray(some[..., 0])).float()
        return torch.stack([255 - red, red], 1)

    found = follow_face(marked, points, unit, by_similarity(by_colour), 2)
    assert np.nanmin(found["flip/follows"]) == 1
    assert np.nanmean(found["flip/stable"]) > 0.98
    assert np.nanmean(found["crop/stable"]) > 0.95
    assert np.nanmax(found["crop/distance"]) < 0.05


def test_pose_spread_is_nothing_for_points_of_the_face():
    points = render(np.arange(10), 64).landmarks.astype(float) / 64
    matrix = np.random.default_rng(0).uniform(0.8, 1.2, (10, 1, 1)) * np.eye(2)
    moved = points[:1] @ matrix + 0.1
    centres = moved[:, [30, 8]]
    assert pose_spread(centres, moved) == pytest.approx(np.zeros(10), abs=1e-6)
    assert pose_spread(np.full((10, 2, 2), 0.5), moved).mean() > 0.01


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tasks: []", "tasks"),
        ("tasks: [{task: cooking, dataset: csv, data: x}]", r"tasks\.0\.task"),
        ("tasks: [{task: regions, dataset: csv, data: x, settings: {labels: [0]}}]", "labels"),
        ("tasks: [{task: regions, dataset: csv, data: x}, {task: regions, dataset: csv, data: y}]", "called"),
        ("tasks: [", "cannot be read"),
    ],
)
def test_suites_that_cannot_be_used(text, says, tmp_path):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_suite(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)


def test_suites_place_data_beside_themselves(tmp_path):
    (tmp_path / "s.yaml").write_text("tasks: [{task: regions, dataset: csv, data: faces}]")
    assert load_suite(tmp_path / "s.yaml").tasks[0].data == str(tmp_path / "faces")
    with pytest.raises(ConfigError, match="epochs"):
        checked(Settings, {"tune": {"epochs": 0}}, "x")


def test_rows_of_tables(backbone, mini):
    result, document = run_task(backbone, entry("expression", "rafdb", mini("rafdb"), modes=("knn",)), Cache(None))
    header, row = markdown_row("n", "d", result)
    assert header.count("|") == row.count("|") + header.splitlines()[1].count("|")
    assert document["dataset"]["faces"]["test"] == 8


def test_what_a_network_said_is_not_computed_again(whole, mini, tmp_path):
    calls = []
    counted = whole.backbone.register_forward_hook(lambda *_: calls.append(1))
    told, cache = entry("regions", "lapa", mini("lapa")), Cache(tmp_path / "cache")
    first, _ = run_task(whole, told, cache)
    once = len(calls)
    again, _ = run_task(whole, told, cache)
    assert len(calls) == once, "all from the cache"
    bare, _ = run_task(whole, told, Cache(None))
    counted.remove()
    assert first.scores == again.scores == bare.scores
    with torch.no_grad():
        changed = torch.nn.Module.state_dict(whole.backbone)
        name = next(iter(changed))
        before = changed[name].clone()
        changed[name].neg_()
        try:
            fresh = Encoder(whole.name, whole.backbone, 32, whole.mean, whole.std, whole.network, whole.about)
            other, _ = run_task(fresh, told, cache)
        finally:
            changed[name].copy_(before)
    assert other.scores != first.scores, "other weights have other features"
