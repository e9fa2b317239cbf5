"""NMI of a perfect segmentation at each size of the map: true masks averaged to its cells, the largest share wins.

    python benchmarks/map_ceiling.py --dataset csv --data DIR [--part test] [--sides 2,3,4,5,6,7,8,14,16,28,32]

prints a Markdown table, over all classes and over the facial parts. The truth of a set without masks is polygons drawn
from its landmarks.
"""

import argparse

import numpy as np

from fra_dist.eval.datasets import READERS, open_set
from fra_dist.eval.datasets.common.labelled_face import with_validation
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import prepare_faces
from fra_dist.eval.oracles import on_map
from fra_dist.eval.region_tables import agreement, count_similarity

SIDES = "2,3,4,5,6,7,8,14,16,28,32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(READERS), default="csv")
    parser.add_argument("--data", required=True)
    parser.add_argument("--part", choices=("train", "val", "test"), default="test")
    parser.add_argument("--sides", default=SIDES, help="cells a side of the map (%(default)s)")
    args = parser.parse_args()
    prepared = prepare_faces(with_validation(open_set(args.dataset, args.data), 0), 64, Cache(None))
    masks, classes = prepared.masks(prepared.places(args.part))
    print(f"{len(masks)} faces, {', '.join(classes)}\n\n| map | NMI | parts NMI |\n|---|---|---|")
    for side in map(int, args.sides.split(",")):
        tables = count_similarity(on_map(masks, len(classes), (side, side)), masks, len(classes))
        found = agreement(tables, classes)
        print(
            f"| {side}×{side} | "
            + " | ".join(f"{found[k](np.ones(len(masks))):.2f}" for k in ("nmi", "parts_nmi"))
            + " |"
        )


if __name__ == "__main__":
    main()
