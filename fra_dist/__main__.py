"""`python -m fra_dist COMMAND ...`: the command `fra-dist`, where it is not on the PATH."""

import sys

from fra_dist.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
