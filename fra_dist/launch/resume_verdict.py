"""Whether two runs are the same: to the bit, or as near as another number of ranks allows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fra_dist.errors import CheckpointError
from fra_dist.files import paths_in
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints.compare import Difference, contents_of, differences
from fra_dist.train.checkpoints.reading import MODEL, OPTIMIZER, Checkpoint, newest_good
from fra_dist.train.run_dir.folder import repeatable

FIRST_LOSS = 1e-5
"""Largest relative difference that the first loss may have after a resume at another world size."""
TRAJECTORY = 1e-6
"""Largest relative difference of every later loss in float64. In float32 runs drift: the order of sums differs."""


@dataclass
class RunComparison:
    """The result of comparing an interrupted run with an uninterrupted one, in words."""

    lines: list[str] = field(default_factory=list)
    """What was compared, one line each."""
    faults: list[str] = field(default_factory=list)
    """What is not as it must be, the first difference of each kind."""

    @property
    def good(self) -> bool:
        """Whether no difference and no other fault was found."""
        return not self.faults


def compare_runs(one: Path, two: Path) -> RunComparison:
    """Compare weights, target, prototypes, buffers, optimiser, metric rows and samples of two run folders bit for bit.

    Raises CheckpointError when one of them has no good checkpoint.
    """
    verdict = RunComparison()
    first, second = _last(one), _last(two)
    for file in (MODEL, OPTIMIZER):
        count = contents_of(first.path)[file][0]
        found = list(differences(first.path / file, second.path / file))
        verdict.lines.append(f"{file}: {count - len(found)} of {count} tensors the same to the bit")
        verdict.faults += [_describe(file, gap) for gap in found[:1]]
    if first.step != second.step:
        verdict.faults.append(f"the last steps are {first.step} and {second.step}")
    for name, rows in (("metrics", metric_rows), ("samples", logged_samples)):
        a, b = rows(one), rows(two)
        wrong = list(row_differences(name, a, b))
        verdict.lines.append(f"{name}: {len(a.keys() | b.keys()) - len(wrong)} of {len(a)} steps the same")
        verdict.faults += wrong[:1]
    return verdict


def near(one: Path, two: Path, resumed: int, double: bool) -> RunComparison:
    """Compare two runs; the second one resumed after step `resumed` at another world size.

    The samples must be the same at every step, the first loss within FIRST_LOSS and, if `double`, every later one
    within TRAJECTORY; the verdict's lines tell how far the rest drifts. Raises CheckpointError when one has no good
    checkpoint.
    """
    verdict = RunComparison()
    a, b = logged_samples(one), logged_samples(two)
    wrong = list(row_differences("samples", a, b))
    verdict.lines.append(f"samples: {len(a) - len(wrong)} of {len(a)} steps the same")
    verdict.faults += wrong[:1]
    rows = [metric_rows(path) for path in (one, two)]
    losses = [{step: row["loss/total"] for step, row in some.items() if "loss/total" in row} for some in rows]
    gaps = {step: _gap(losses[0][step], losses[1].get(step)) for step in losses[0]}
    first, worst = gaps.get(resumed + 1, float("inf")), max(gaps.values(), default=float("inf"))
    verdict.lines.append(f"loss of step {resumed + 1}, the first after the resume: relative difference {first:.2e}")
    verdict.lines.append(f"loss of any step: relative difference {worst:.2e} at most")
    if not first <= FIRST_LOSS:
        verdict.faults.append(f"the first loss after the resume is off by {first:.2e}, more than {FIRST_LOSS:.0e}")
    if double and not worst <= TRAJECTORY:
        verdict.faults.append(f"in float64 a later loss is off by {worst:.2e}, more than {TRAJECTORY:.0e}")
    folders = [_last(path).path for path in (one, two)]
    for file in (MODEL, OPTIMIZER):
        drift = [gap.absolute for gap in differences(folders[0] / file, folders[1] / file) if gap.absolute is not None]
        verdict.lines.append(f"{file} at the end: values differ by {max(drift, default=0.0):.2e} at most")
    return verdict


def metric_rows(run: Path) -> dict[int, dict[str, Any]]:
    """Return {step: metrics row without what depends on the machine} of a run folder."""
    found: dict[int, dict[str, Any]] = {}
    for row in read_rows(run / "metrics.jsonl"):
        found.setdefault(row["step"], {}).update(repeatable(row))
    return found


def logged_samples(run: Path) -> dict[int, list[int]]:
    """Return {step: sorted sample ids of the global batch} of a run folder, from the sample logs of all ranks."""
    found: dict[int, list[int]] = {}
    for path in paths_in(run / "samples", "rank-*.jsonl"):
        for row in read_rows(path):
            found.setdefault(row["step"], []).extend(row["ids"])
    return {step: sorted(ids) for step, ids in found.items()}


def row_differences(name: str, one: dict[int, Any], two: dict[int, Any]) -> Iterator[str]:
    """Yield one line for each step whose rows differ. They are compared as JSON, in which NaN equals NaN."""
    for step in sorted(one.keys() | two.keys()):
        a, b = one.get(step), two.get(step)
        if json.dumps(a) == json.dumps(b):
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            key = next(k for k in {**a, **b} if json.dumps(a.get(k)) != json.dumps(b.get(k)))
            yield f"{name}: {key} of step {step} is {a.get(key)} and {b.get(key)}"
        else:
            yield f"{name}: step {step} " + (
                "differs" if a and b else f"is only in the {'first' if a else 'second'} run"
            )


def _last(run: Path) -> Checkpoint:
    found, damage = newest_good(run / "checkpoints")
    if found is None:
        raise CheckpointError(f"{run} has no good checkpoint{': ' + damage[0] if damage else ''}")
    return found


def _gap(one: float | None, two: float | None) -> float:
    if one is None or two is None:
        return 0.0 if one is two else float("inf")
    return abs(one - two) / max(abs(one), abs(two), 1e-30)


def _describe(file: str, gap: Difference) -> str:
    size = "" if gap.absolute is None else f", largest |a-b| {gap.absolute:.3g}, relative {gap.relative:.3g}"
    return f"{file}: {gap.name} differs ({gap.why}{size})"
