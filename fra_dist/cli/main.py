"""The `fra-dist` command: one module a sub-command, imported only when it is used."""

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

from fra_dist import __version__
from fra_dist.cli.completion import asked, chosen_command, complete
from fra_dist.cli.line.any_order import AnyOrderParser, at_home, command_first
from fra_dist.errors import FraError
from fra_dist.exit_status import BROKEN_PIPE, INTERRUPTED
from fra_dist.files import failure
from fra_dist.foreign_text import PlainOutput, without_logins
from fra_dist.safe_output import QUIET, protect, to_null
from fra_dist.train.signals import EARLY

COMMANDS = {
    "pretrain": "pre-train a backbone, or resume a run",
    "launch": "start a run under SLURM, Ray or torchrun, and again after faults",
    "replay": "do one step of a run again and say where it goes wrong",
    "status": "one screen about a run",
    "report": "one page about runs: curves, pictures, scores, what happened",
    "ckpt": "list, check, compare and average checkpoints",
    "verify-resume": "prove on this machine that a stopped run ends like one that was not",
    "chaos": "put faults into small trainings and prove that each ends as an undisturbed one",
    "doctor": "check that everything a run needs works on this machine",
    "plan": "what a run reads: steps, shards and bytes a rank, the cache it needs",
    "shards": "make and inspect WebDataset shards",
    "heatmaps": "draw the regions that a checkpoint finds in photos",
    "eval": "measure what a checkpoint learned",
    "embed": "write embeddings, regions and heatmaps of photos, with a map",
    "export": "write the network, or its backbone, for other code: ONNX, Hugging Face, timm, ...",
    "convert": "translate weights between the published names and ours",
    "kernels": "which kernels run on this machine, and whether they compute what they should",
    "config": "what each key of the configuration means; `config list`: the shipped configurations",
    "init": "copy the shipped configurations and launchers into a folder",
    "demo": "synthetic faces to report page, on this machine",
    "completion": "code that lets bash, zsh or fish complete our words",
}
STATUSES = """exit status:
  0    done; of a run: complete
  1    something outside failed (a disk, a rank), or a check found something: another attempt may succeed
  2    bad input, which one line explains: another attempt would end in the same way
  70   a rank made no progress and was ended
  75   a run was asked to stop and is saved: the same command resumes it
  130  the same after Ctrl-C; of other commands: stopped
  141  the reader of the output has gone away

-q or --quiet anywhere: results, warnings and errors only. NO_COLOR=1: no colours."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Exit status 0: done; 2: bad input, which one line explains; otherwise the sub-command's own.
    """
    words = at_home(sys.argv[1:] if argv is None else argv)
    if argv is None:  # a process of its own
        _prepare_process(words)
    words, quiet = without_quiet(words)
    with _quieted(quiet):
        return _run(command_first(words, COMMANDS))


def _run(words: Sequence[str]) -> int:
    """Parse the words, the command first, and do what they say."""
    parser = AnyOrderParser(
        prog="fra-dist",
        description="Pre-train face representations with FRA.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fra-dist {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((w for w in words if not w.startswith("-")), None)
    if asked():
        chosen = chosen_command(COMMANDS)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"fra_dist.cli.{name.replace('-', '_')}")
            sub.words = words
            module.configure(sub)
            sub.set_defaults(run=module.run)
    if asked():
        complete(parser)
    args = parser.parse_args(words)
    try:
        return int(args.run(args) or 0)
    except KeyboardInterrupt:
        print(f"\nfra-dist {chosen}: stopped", file=sys.stderr)
        return INTERRUPTED
    except FraError as error:
        print(f"fra-dist {chosen}: {without_logins(str(error))}", file=sys.stderr)
        return error.exit_status
    except RuntimeError as error:
        if "torch" not in sys.modules or (lost := _lost_peer(error)) is None:
            raise
        print(f"fra-dist {chosen}: {lost}", file=sys.stderr)
        return lost.exit_status
    except BrokenPipeError:
        to_null(sys.stdout)  # the interpreter would try to write the rest
        return BROKEN_PIPE
    except OSError as error:
        refused = failure(error, f"cannot use {_named(error)}")
        print(f"fra-dist {chosen}: {refused}", file=sys.stderr)
        return refused.exit_status


def without_quiet(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words without `-q` and `--quiet`, which may stand anywhere before a `--`, and whether there was one."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word not in ("-q", "--quiet")]
    return [*kept, *words[end:]], len(kept) < end


@contextlib.contextmanager
def _quieted(quiet: bool) -> Iterator[None]:
    """Set the variable of `--quiet` for this process and those that it starts, until this command has ended."""
    before = os.environ.get(QUIET)
    if quiet:
        os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if quiet:
            os.environ.pop(QUIET)
            if before is not None:
                os.environ[QUIET] = before


def _prepare_process(words: Sequence[str]) -> None:
    """A run ends neither by a signal before its first step nor by an output that nobody takes; and no name of a file,
    whatever its bytes, is too odd to be printed or does anything to a terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is not None:  # closed by whoever started us
            setattr(sys, name, PlainOutput(getattr(sys, name)))
    if words[:1] in (["pretrain"], ["launch"]) or sys.stdout is None or sys.stderr is None:
        protect()
    if words[:1] in (["pretrain"], ["launch"]):
        EARLY.begin()


def _lost_peer(error: RuntimeError) -> FraError | None:
    from fra_dist.distributed.messages import lost_peer  # imports torch

    return lost_peer(error)


def _named(error: OSError) -> str:
    """The paths that an error names."""
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return " and ".join(paths) or "a file, a device or the network"


if __name__ == "__main__":
    sys.exit(main())
