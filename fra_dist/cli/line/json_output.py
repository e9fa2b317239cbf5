"""`--json`: the result is the only thing on standard output, and what is told on the way goes to standard error."""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option --json to a command's parser; `what` says what the object holds."""
    parser.add_argument("--json", action="store_true", help=f"as JSON: {what}; progress goes to standard error")


@contextlib.contextmanager
def told_aside(wanted: bool) -> Iterator[None]:
    """Send what is printed inside to standard error, if `wanted`."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    """Print a document as JSON on standard output. A number that is not finite becomes null."""
    print(json.dumps(_finite(document), indent=1, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
