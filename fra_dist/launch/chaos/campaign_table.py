"""The rows of a campaign as a table and in one line."""

from collections.abc import Sequence
from statistics import median

from fra_dist.launch.chaos.fault_draws import KINDS
from fra_dist.launch.chaos.trial import FaultResult

_HEAD: tuple[str, ...] = ("fault", "times", "finished", "starts", "steps lost", "seconds to recover", "identical")


def table(rows: Sequence[FaultResult]) -> str:
    """Format the rows of a campaign as a table with one line for each kind of fault, and one for all.

    Its columns: how often the kind came, how many trainings finished, starts and lost steps on average, the median and
    the longest time to recover, and how many trainings were identical to the undisturbed one.
    """
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    lines = [_HEAD, *(_line(kind, [row for row in rows if row.kind == kind]) for kind in kinds), _line("all", rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))])
        for first, *rest in lines
    )


def goodput(rows: Sequence[FaultResult]) -> float:
    """Return the share of the time of all trainings in which faults did not keep new steps from being done, 0 to 1."""
    total = sum(row.seconds for row in rows)
    lost = sum(row.seconds if row.outcome != "finished" else row.recover_seconds or 0.0 for row in rows)
    return 1 - min(1.0, lost / total) if total else 0.0


def campaign_totals(rows: Sequence[FaultResult]) -> dict[str, float | int]:
    """Count the outcomes of a campaign: {name: count, ...}, with its goodput."""
    return {
        "faults": len(rows),
        "finished": sum(row.outcome == "finished" for row in rows),
        "identical": sum(row.identical for row in rows),
        "as_expected": sum(row.good for row in rows),
        "steps_lost": sum(row.steps_lost for row in rows),
        "goodput": round(goodput(rows), 3),
    }


def _line(name: str, rows: Sequence[FaultResult]) -> tuple[str, ...]:
    count = len(rows)
    times = [row.recover_seconds for row in rows if row.recover_seconds is not None]
    recover = f"{median(times):.1f}, at most {max(times):.1f}" if times else "-"
    return (
        *(name, str(count), f"{sum(row.outcome == 'finished' for row in rows)} of {count}"),
        f"{sum(len(row.statuses) for row in rows) / count:.1f}",
        f"{sum(row.steps_lost for row in rows) / count:.1f}",
        *(recover, f"{sum(row.identical for row in rows)} of {count}"),
    )
