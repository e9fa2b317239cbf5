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
    "That regions follow the face is the work of the correspondence term. BYOL with the same term has features as good; "
    "what FRA adds to it are the regions themselves (docs/method.md, docs/results.md).",
    "NMI of k-means on position is above 0 because most faces look ahead from the middle of the picture.",
)


def floors_ahead(looks: Sequence[Look]) -> list[str]:
    """A sentence for each floor: in which columns of the tables it is at least as good as the first network."""
    own = looks[0].name
    regions, read = region_table(looks), read_table(looks)
    return [
        _sentence(
            "K-means on position, which looks at no photo,", regions, f"{own}, {HOW['heatmaps']}", HOW["position"]
        ),
        _sentence("The untrained network", read, own, UNTRAINED),
    ]


def _sentence(subject: str, table: Table, own: str, floor: str) -> str:
    rows = dict(table.rows)
    compared, ahead = 0, list[str]()
    for column, mine, other in zip(table.columns, rows[own], rows[floor], strict=True):
        if column.higher_is_better is None or mine is None or other is None:
            continue
        compared += 1
        if (other >= mine) if column.higher_is_better else (other <= mine):
            ahead.append(column.title)
    if not ahead:
        return f"{subject} is behind {own} in all {compared} columns of the table."
    return f"{subject} is as good as {own} or better in {len(ahead)} of {compared} columns: {', '.join(ahead)}."
