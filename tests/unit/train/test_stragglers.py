import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.train.hooks.stragglers import Own, find_stragglers


def found(*own, step=1.0, factor=1.5):
    return [(one.rank, one.why) for one in find_stragglers([Own(*times) for times in own], step, factor)]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([(0.0, 0.5), (0.0, 1.0), (0.0, 0.5)], [(1, "compute")]),
        ([(0.5, 0.5), (0.0, 0.5), (0.0, 0.5)], [(0, "data")]),
        ([(0.5, 0.5), (0.5, 0.5), (0.5, 0.5)], []),
        ([(0.0, 0.5), (0.0, 0.74)], []),
        ([(0.0, 0.5), (0.0, 0.76)], [(1, "compute")]),
        ([(0.0, 0.01), (0.03, 0.01)], []),  # three hundredths of a step
        ([(9.0, 9.0)], []),
        ([(0.0, 0.5), (0.0, 2.0), (0.0, 0.5), (0.0, 2.0), (0.0, 0.5)], [(1, "compute"), (3, "compute")]),
    ],
)
def test_who_and_why(own, expected):
    assert found(*own) == expected


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=9), st.floats(1.0, 5.0))
def test_never_a_majority(own, factor):
    assert len(found(*own, factor=factor)) <= len(own) / 2
