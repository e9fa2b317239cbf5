"""Findings as text: one line a check, and the remedy below those that need one."""

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fra_dist.doctor.result import CheckResult
from fra_dist.formats import plural

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}
_NAME, _INDENT = 13, 20


def coloured() -> bool:
    """Whether standard output is a terminal that wants colours (NO_COLOR is not set, and TERM is not dumb)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lines_of(findings: Iterable[CheckResult], width: int | None = None, colour: bool = False) -> Iterator[str]:
    """Yield the lines of the screen, each finding as soon as it is there."""
    columns = max(width or shutil.get_terminal_size((100, 24)).columns, 40)
    for one in findings:
        word = f"\033[{_COLOURS[one.verdict]}m{one.verdict:<4}\033[0m" if colour else f"{one.verdict:<4}"
        text = f"{one.name:<{_NAME}} {one.text}"
        first, *rest = textwrap.wrap(text, columns - 6, subsequent_indent=" " * (_INDENT - 6)) or [one.name]
        yield f"{word}  {first}"
        yield from (f"      {line}" for line in rest)
        if one.remedy:
            indent = " " * _INDENT
            yield from textwrap.wrap(
                f"-> {one.remedy}", columns, initial_indent=indent, subsequent_indent=indent + "   "
            )


def count_line(findings: Sequence[CheckResult]) -> str:
    """One line: how many checks are as they should be, and how many are not."""
    counts: Counter[str] = Counter(one.verdict for one in findings)
    parts = [plural(len(findings), "check"), f"{counts['ok']} ok"]
    parts += [f"{counts[kind]} {kind}" for kind in ("warn", "fail") if counts[kind]]
    return ", ".join(parts)
