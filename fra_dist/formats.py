"""Numbers as people read them: sizes of files and spans of time, the same in every command and page."""


def size_text(count: float) -> str:
    """A number of bytes with three digits and a decimal unit: `1.23 MB`, `45 B`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.3g} {unit}" if count < 999.5 and unit != "B" else f"{count:,.0f} {unit}"


def clock_text(seconds: float) -> str:
    """A span of time in seconds as minutes and seconds, `4:05`, or with hours, `1:04:05`; below zero counts as zero."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(count: int, singular: str, several: str = "") -> str:
    """A count with its noun: `1 rank`, `2 ranks`; `several` is a plural that does not end in s."""
    return f"{count:,} {singular if count == 1 else several or singular + 's'}"
