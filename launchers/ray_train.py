"""The driver of a run on a Ray cluster; the same as `fra-dist launch ray`.

ray job submit --working-dir . -- python launchers/ray_train.py --config CONFIG --workers 2:16 output=/shared/run ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the submitted copy, also where fra_dist is not installed

from fra_dist.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["launch", "ray", *sys.argv[1:]]))
