import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.eval.scores.splits import split_by


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=0, max_size=60), st.integers(0, 5))
def test_people_are_in_one_part_only(people, seed):
    groups = np.array(people, np.int64)
    split = split_by(groups, seed)
    parts = [set(groups[part]) for part in (split.train, split.validation, split.test)]
    assert sum(len(part) for part in parts) == len(set.union(*parts))
    assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(len(groups)))


def test_splits_have_the_sizes_they_say_and_repeat():
    split = split_by(np.arange(1000))
    assert (len(split.train), len(split.validation), len(split.test)) == (600, 150, 250)
    assert (split.train == split_by(np.arange(1000)).train).all()
    assert (split.train != split_by(np.arange(1000), seed=1).train).any()
