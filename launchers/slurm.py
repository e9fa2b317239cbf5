"""Submit a run to SLURM; the same as `fra-dist launch slurm`.

python launchers/slurm.py --config CONFIG --nodes 4 --gpus-per-node 8 --time 12:00:00 --partition NAME key=value ...
"""

import sys

from fra_dist.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["launch", "slurm", *sys.argv[1:]]))
