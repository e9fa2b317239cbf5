import pytest

from fra_dist.formats import clock_text, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (45, "45 B"), (999, "999 B"), (1000, "1 kB"), (1234, "1.23 kB"), (999_600, "1 MB"), (5.5e9, "5.5 GB")],
)
def test_sizes(count, text):
    assert size_text(count) == text


def test_sizes_beyond_the_largest_unit():
    assert size_text(1.2345e16) == "12,345 TB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5.9, "0:05"), (245, "4:05"), (3845, "1:04:05"), (-3, "0:00"), (360_000, "100:00:00")],
)
def test_clocks(seconds, text):
    assert clock_text(seconds) == text
