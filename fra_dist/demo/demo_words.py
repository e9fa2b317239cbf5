"""What the demo's page says in words, with the places where something simpler is ahead of the network."""

from collections.abc import Sequence

from fra_dist.eval.baselines import UNTRAINED
from fra_dist.eval.quick_look import Look
from fra_dist.eval.score_table import HOW, Table, read_table, region_table

SUMMARY = (
    "A small network was pre-trained on synthetic faces, without labels, by FRA (facial region awareness) with the "
    "correspondence term and prototypes by clusters. It found regions by itself; the true parts of the faces tell how "
    "well. The published form of FRA and plain BYOL stand beside it."
)
NOTES = (
    "The faces are synthetic, the network is small and the run is short: the page shows that every part works and "
    "what each form of the method does under one budget, not what FRA reaches on photographs.",
    "All networks saw the same photos for the same number of steps. Heatmap temperature and the weight of the relation "
    "loss are set for a short run, in all of them alike; the settings below say how.",
    "The published form starts with all queries alike and needs far more steps to tell them apart.",
    "That regions follow the face is the work of the correspondence term. BYOL with it has features as good; what "
    "FRA adds to it are the regions themselves (docs/method.md, docs/results.md).",
    "NMI of k-means on position is above 0 because most faces look ahead from the middle of the picture.",
)


def floors_ahead(looks: Sequence[Look]) -> list[str]:
    """A sentence for each floor: in which columns of the tables it is at least as good as the first network."""
    own = looks[0].name
    regions, read = region_table(looks), read_table(looks)
    position = _ahead(regions, f"{own}, {HOW['heatmaps']}", HOW["position"])
    untrained = _ahead(read, own, UNTRAINED)
    return [
        _sentence("K-means on position, which looks at no photo,", own, "regions", *position),
        _sentence("The untrained network", own, "frozen features", *untrained),
    ]


def _ahead(table: Table, own: str, floor: str) -> tuple[list[str], int]:
    """Titles of the columns in which the row `floor` is at least as good as `own`, and how many can be compared."""
    rows = dict(table.rows)
    compared, ahead = 0, list[str]()
    for column, mine, other in zip(table.columns, rows[own], rows[floor], strict=True):
        if column.higher_is_better is None or mine is None or other is None:
            continue
        compared += 1
        if (other >= mine) if column.higher_is_better else (other <= mine):
            ahead.append(column.title)
    return ahead, compared


def _sentence(floor: str, own: str, table: str, ahead: list[str], compared: int) -> str:
    if not ahead:
        return f"{floor} is behind {own} in all {compared} columns of the table of {table}."
    where = ", ".join(ahead)
    return f"{floor} equals or beats {own} in {len(ahead)} of {compared} columns of the table of {table}: {where}."
