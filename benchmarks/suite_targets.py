"""What the rows of `gpu_suite.py` say about the figures that are aimed at."""

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
Found = float | None


def report(rows: list[Row]) -> None:
    """Print a line for each figure: measured or not, and the aim."""
    print(f"{'figure':<62} {'measured':>10}   aim")
    for name, aim, shown, value in figures(rows):
        print(f"{name:<62} {'-' if value is None else f'{value:.4g}':>10}   {shown}  {_verdict(aim, value)}")


def figures(rows: list[Row]) -> list[tuple[str, Callable[[float], bool], str, Found]]:
    """(figure, whether a value is good enough, the aim in words, value or None). Of several rows for one thing the
    last counts; of several maps, the worst. Times are those of our best way, launches those without a CUDA graph."""
    at_most, at_least = (lambda limit: lambda x: x <= limit), (lambda limit: lambda x: x >= limit)
    region = [row for row in rows if row["part"] == "kernel: region_attention" and row.get("side", 0) >= 14]
    table = [
        ("batch norm, share of the copy rate, worst map", at_least(0.85), "≥ 0.85", _share(rows, "batch_norm")),
        ("LARS and EMA, share of the copy rate", at_least(0.85), "≥ 0.85", _share(rows, "lars_ema")),
        ("region attention, H·W ≥ 196, share of the copy rate", at_least(0.75), "≥ 0.75", _share(region)),
        ("  against eager, times as fast", at_least(2), "≥ 2", _gain(region, "eager")),
        ("  against torch.compile", at_least(1), "> 1", _gain(region, "torch.compile")),
    ]
    for batch, aims in ((256, (2, 1.2)), (64, (2.5, 1.2))):
        steps = {row["way"]: row for row in rows if row.get("batch") == batch and "images_s" in row and "way" in row}
        best = max((row for way, row in steps.items() if way.startswith("ours")), key=_speed, default=None)
        way = f"step, {batch} images ({best['way'] if best else 'ours'})"
        if batch == 256:
            table.append((f"{way}: images/s", at_least(1850), "≥ 1850", _of(best, "images_s")))
        for other, aim in zip(("published", "torch.compile"), aims, strict=True):
            table.append((f"{way}: against {other}", at_least(aim), f"≥ {aim}", _over(best, steps.get(other))))
        if batch == 256:
            memory = _over(best, steps.get("eager"), "peak_gib")
            table.append((f"{way}: peak memory, share of eager", at_most(0.75), "≤ 0.75", memory))
        else:
            ours, way = steps.get("ours"), f"step, {batch} images (ours)"
            outside = _of(ours, "outside_convolutions")
            table.append((f"{way}: launches outside convolutions", at_most(299), "< 300", outside))
            table.append((f"{way}: waits for the device", at_most(0), "0", _of(ours, "waits")))
    total = next((row["total"] for row in reversed(rows) if row.get("what") == "collectives"), None)
    return [*table, ("collectives in a step", at_most(190), "≤ 190", total)]


def _verdict(good: Callable[[float], bool], value: Found) -> str:
    return "not measured" if value is None else "reached" if good(value) else "missed"


def _of(row: Row | None, key: str) -> Found:
    return None if row is None else row.get(key)


def _speed(row: Row) -> float:
    return row["images_s"]


def _over(row: Row | None, other: Row | None, key: str = "images_s") -> Found:
    if not row or not other or not row.get(key) or not other.get(key):
        return None
    return row[key] / other[key]


def _share(rows: Iterable[Row], kernel: str | None = None) -> Found:
    chosen = [row for row in rows if kernel is None or row["part"] == f"kernel: {kernel}"]
    shares = [row.get("of_copy", row.get("share_of_copy")) for row in chosen if row.get("path") == "ours"]
    return min((share for share in shares if share is not None), default=None)


def _gain(rows: list[Row], path: str) -> Found:
    """How many times as fast ours is, on the map where that is least."""
    times = {(row.get("side"), row.get("path")): row.get("ms") for row in rows}
    pairs = [(times.get((side, path)), times.get((side, "ours"))) for side in {side for side, _ in times}]
    return min((other / own for other, own in pairs if other and own), default=None)
