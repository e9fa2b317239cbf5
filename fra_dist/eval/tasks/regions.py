"""Regions: do the parts of a face that a network finds by itself agree with true parts?

Truth: the data set's masks, or polygons drawn from its landmarks. Each way of getting regions fills one table of
regions against classes over the test part; k-means is fitted on training photos without labels.

| way | regions |
|---|---|
| `heatmaps` | of the network's own prototypes |
| `clusters`, `random_clusters` | k-means on the map of this network, and of an untrained one |
| `random_prototypes` | random directions in place of the network's prototypes: no score but chance |
| `position`, `position_in_parts` | k-means on the place in the photo; the second inside the parts of training masks |
| `ceiling`, `face_frame` | oracles with the test faces' labels: what a map of this size, or places on the face, allow |

Each is scored over all classes, over facial parts (`parts_`), and over parts by head yaw (`yaw_0_30` and so on, in
degrees, where it is known), on random crops (`crops`) and against polygons of landmarks (`polygons`, where a set has
both). The linear probe learns the classes from single cells of the backbone's map: ridge regression to the share of
each class in a cell, then upsampled; strength by validation mIoU.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fra_dist.eval import plots
from fra_dist.eval.features.prepared_faces import MASK_SIDE, PreparedFaces
from fra_dist.eval.oracles import CEILING, FACE_FRAME, class_shares
from fra_dist.eval.readers.frozen_readers import Part, Reader, Sealed, fit_ridge
from fra_dist.eval.region_tables import BATCH, agreement, count_tables, describe_table, of_sum
from fra_dist.eval.regions.segmenters import POSITION_IN_PARTS, Segmenter, in_parts, regions_of, segmenters
from fra_dist.eval.scores import table_scores
from fra_dist.eval.scores.intervals import Floats, Score, Statistic, with_interval
from fra_dist.eval.tasks.common import Places, TaskInput, TaskResult
from fra_dist.eval.tasks.region_truth import (
    CROP_SIDES,
    ONLY_PARTS,
    WHOLE,
    FaceView,
    Oracles,
    faces_under_test,
    groups_of_yaw,
)

PROBED = 1000
"""Most training faces that the linear probe is fitted to."""
COLUMNS = ("nmi", "parts_nmi", "miou", "parts_miou")
PROBE = "probe"
ORACLES = (CEILING, FACE_FRAME)


def run(job: TaskInput) -> TaskResult:
    """Measure a network's regions on a prepared set, among their floors and oracles.

    Raises DataError when there are neither masks nor landmarks to draw polygons from.
    """
    prepared, seed, draws = job.prepared, job.settings.seed, job.settings.bootstrap
    validation, sealed = prepared.places("val"), Sealed(prepared.places("test"))
    regions = regions_of(job.encoder, job.settings.regions)
    known, chosen = faces_to_fit(prepared), set(job.settings.ways)
    uses_masks = chosen & {POSITION_IN_PARTS, PROBE, *ORACLES}
    masks, classes = prepared.masks(known if uses_masks else known[:1])  # of one face: the names of the classes
    ways = segmenters(job.encoder, prepared.photos[known], regions, seed, chosen)
    informed = in_parts(list(masks), classes, regions, seed) if POSITION_IN_PARTS in chosen else None
    if informed is not None:
        ways[POSITION_IN_PARTS] = informed
    probe = _fit_probe(job, known, masks, _spread(validation, BATCH), classes) if PROBE in chosen else None
    oracles = Oracles.fitted(job, known, masks, classes, regions) if chosen & set(ORACLES) else None

    test = sealed.open()
    people = prepared.people(test)
    under = faces_under_test(job, test)
    scores: dict[str, Score] = {}
    details: dict[str, object] = {"classes": list(classes), "regions": regions, "truth": _truth(job)}
    for name, faces in under.items():
        tables = tables_of(faces, ways, regions) | (oracles.tables(faces) if oracles else {})
        scores |= _scores(name, faces, tables, people, job)
        if name == WHOLE:
            details |= {way: describe_table(table.sum(0), faces.classes) for way, table in tables.items()}
    if probe is not None:
        answered = _answered(job, probe, under[WHOLE])
        scores["probe/miou"] = with_interval(_diagonal_iou(answered), len(test), people, seed, draws=draws)
        overlap = table_scores.overlaps(answered.sum(0)).diagonal()
        details[PROBE] = {"iou": dict(zip(classes, overlap.tolist(), strict=True)), "chosen": probe.chosen}
    shown = {name: score.value for name, score in scores.items() if name.endswith("nmi")}
    columns = tuple(name for name in scores if name.split("/", 1)[1] in COLUMNS or name.count("/") == 2)
    return TaskResult(
        "regions", _protocol(job), scores, columns, details, {"nmi.png": plots.bars(shown, "NMI")}, grid=True
    )


def faces_to_fit(prepared: PreparedFaces) -> Places:
    """Training faces, spread evenly, that k-means, the oracles and the probe are fitted to."""
    return _spread(prepared.places("train"), PROBED)


def tables_of(faces: FaceView, ways: Mapping[str, Segmenter], regions: int) -> dict[str, NDArray[np.int64]]:
    """Pixels by region and class of each way of getting regions, (n, Q, L)."""
    width = len(faces.classes)
    return {name: count_tables(faces.photos, faces.masks, way, regions, width) for name, way in ways.items()}


def _scores(
    name: str, faces: FaceView, tables: Mapping[str, NDArray[np.int64]], people: Places | None, job: TaskInput
) -> dict[str, Score]:
    """Of whole photos everything, and NMI on parts by yaw; of other views NMI on parts."""
    seed, draws = job.settings.seed, job.settings.bootstrap
    everybody = np.ones(len(faces.places), bool)
    groups = groups_of_yaw(job.prepared.yaws(faces.places)) if name == WHOLE else {name: everybody}
    found: dict[str, Score] = {}
    for way, table in tables.items():
        parts = [(inside, _of_parts(way, group, table[inside], faces.classes)) for group, inside in groups.items()]
        if name == WHOLE:
            whole = agreement(table, faces.classes, whole=way not in ONLY_PARTS)
            parts.insert(0, (everybody, {f"{way}/{key}": one for key, one in whole.items()}))
        for inside, statistics in parts:
            who = None if people is None else people[inside]
            for key, one in statistics.items():
                found[key] = with_interval(one, int(inside.sum()), who, seed, draws=draws)
    return found


def _of_parts(way: str, group: str, table: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Statistic]:
    """NMI on parts alone, of a group of faces or another view of all; nothing for classes without parts."""
    found = agreement(table, classes, whole=False)
    return {f"{way}/parts_nmi/{group}": found["parts_nmi"]} if "parts_nmi" in found else {}


def _diagonal_iou(tables: NDArray[np.int64]) -> Statistic:
    def score(table: table_scores.Table) -> float:
        present = table.sum(0) > 0
        return float(table_scores.overlaps(table).diagonal()[present].mean())

    return of_sum(tables.astype(np.float64), score)


def _fit_probe(
    job: TaskInput, train: Places, masks: NDArray[np.uint8], validation: Places, classes: Sequence[str]
) -> Reader:
    photos, width = job.prepared.photos, len(classes)
    maps, held = job.encoder.maps(photos[train]), job.encoder.maps(photos[validation])
    side = (maps.shape[2], maps.shape[3])
    shares, counted = class_shares(masks, width, side)
    rows, targets = _pixels(maps)[counted.ravel()], shares.transpose(0, 2, 3, 1).reshape(-1, width)[counted.ravel()]
    truth = job.prepared.masks(validation)[0]

    def score(outputs: Floats) -> float:
        way = _raise_back(outputs, len(held), side)
        tables = count_tables(photos[validation], truth, lambda some: way[: len(some)], width, width)
        return _diagonal_iou(tables)(np.ones(len(tables)))

    return fit_ridge(Part(rows, targets), Part(_pixels(held), np.zeros(0)), score)


def _answered(job: TaskInput, probe: Reader, faces: FaceView) -> NDArray[np.int64]:
    width = len(faces.classes)
    return count_tables(faces.photos, faces.masks, _segment(job, probe), width, width)


def _segment(job: TaskInput, probe: Reader) -> Segmenter:
    def way(photos: NDArray[np.uint8]) -> Tensor:
        maps = job.encoder.maps(photos)
        return _raise_back(probe.answer(_pixels(maps)), len(maps), (maps.shape[2], maps.shape[3]))

    return way


def _pixels(maps: Tensor) -> NDArray[np.float32]:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()


def _raise_back(outputs: Floats, count: int, side: tuple[int, int]) -> Tensor:
    return torch.from_numpy(outputs).float().reshape(count, *side, -1).permute(0, 3, 1, 2)


def _spread(places: Places, count: int) -> Places:
    return places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).astype(np.int64))]


def _truth(job: TaskInput) -> str:
    return "masks" if job.prepared.faces.mask_classes else "polygons drawn from landmarks; outside the face not counted"


def _protocol(job: TaskInput) -> dict[str, object]:
    return {
        "truth": _truth(job),
        "pixels": f"{MASK_SIDE} by {MASK_SIDE}, similarities upsampled bilinearly, the largest wins",
        "parts": "the pixels of brows, eyes, nose and mouth only",
        "miou": "one region for each class, Hungarian matching",
        "k-means": "fitted on training photos, no labels; position_in_parts knows where training masks have parts",
        "ceiling": "shares of the true classes in each cell of the network's map, upsampled as similarities are",
        "face_frame": "k-means on places of parts, each face brought to one frame by its true landmarks or masks",
        "yaw": "NMI on parts of the faces of |yaw| from 0 below 30, 30 below 60, and 60 to 90 degrees",
        "crops": f"one square of {CROP_SIDES[0]:g} to {CROP_SIDES[1]:g} of each photo's side at a seeded place",
        "probe": f"ridge from cells of the map; {PROBED} training, {BATCH} validation faces at most; strength by mIoU",
        "test": "opened once, after all fits",
    }
