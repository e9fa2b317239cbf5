"""The result of a check of `fra-dist doctor`."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of `fra-dist doctor`: the verdict, what was found, and what to do about it."""

    verdict: Verdict
    """ok: as it should be; warn: a run works, but slowly, or not in every way; fail: a run will not work."""
    text: str
    """What was found, in one line."""
    remedy: str = ""
    """What to do about it; empty for ok."""
    name: str = ""
    """The name of the check, which `examine` fills in."""


def ok(text: str) -> CheckResult:
    """Return the result of a check that found nothing to be done; `text` says what was found."""
    return CheckResult("ok", text)


def warn(text: str, remedy: str) -> CheckResult:
    """A finding with which a run works, but not as well as it could."""
    return CheckResult("warn", text, remedy)


def fail(text: str, remedy: str) -> CheckResult:
    """A finding with which a run does not work."""
    return CheckResult("fail", text, remedy)


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line of at most 200 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
