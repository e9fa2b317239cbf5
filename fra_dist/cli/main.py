"""The `fra-dist` command: one module a sub-command, imported only when it is used."""

import importlib
import sys
from collections.abc import Sequence

from fra_dist import __version__
from fra_dist.cli.any_order import AnyOrderParser, at_home
from fra_dist.errors import FraError

COMMANDS = {
    "pretrain": "pre-train a backbone, or go on with a run",
    "launch": "start a run under SLURM, Ray or torchrun, and again after faults",
    "replay": "do one step of a run again and say where it goes wrong",
    "status": "one screen about a run",
    "ckpt": "list, check, compare and average checkpoints",
    "verify-resume": "prove on this machine that a stopped run ends like one that was not",
    "chaos": "put faults into small trainings and prove that each ends as an undisturbed one",
    "plan": "what a run reads: steps, shards and bytes a rank, the cache it needs",
    "shards": "make and inspect WebDataset shards",
    "heatmaps": "draw the regions that a checkpoint finds in photos",
    "eval": "measure what a checkpoint learned",
    "embed": "write embeddings, regions and heatmaps of photos, with a map",
    "export": "write a backbone that other code can load",
    "convert": "translate weights between the published names and ours",
    "kernels": "which kernels run on this machine, and whether they compute what they should",
    "config": "what each key of the configuration means; `config list`: the shipped configurations",
    "init": "copy the shipped configurations and launchers into a folder",
    "demo": "synthetic faces to report page, on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command. Exit status: 0 done, 2 bad input (one line says what), else what the command says."""
    words = at_home(sys.argv[1:] if argv is None else argv)
    parser = AnyOrderParser(prog="fra-dist", description="Pre-train face representations with FRA.")
    parser.add_argument("--version", action="version", version=f"fra-dist {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((w for w in words if not w.startswith("-")), None)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"fra_dist.cli.{name.replace('-', '_')}")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(words)
    try:
        return int(args.run(args) or 0)
    except FraError as error:
        print(f"fra-dist {chosen}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
