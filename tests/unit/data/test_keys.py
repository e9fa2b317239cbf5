import re

from hypothesis import given
from hypothesis import strategies as st

from fra_dist.data.making.sample_keys import LONGEST, make_keys
from fra_dist.data.shards.tars import split_name

PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=60)
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), unique=True, max_size=30)


@given(NAMES)
def test_keys_are_unique_and_safe(names: list[str]) -> None:
    keys = make_keys(names)
    assert len(set(keys)) == len(names)
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_/-]+", key)
        assert len(key) <= LONGEST
        assert split_name(f"{key}.mask.png") == (key, "mask.png")


@given(NAMES)
def test_the_order_of_names_does_not_matter(names: list[str]) -> None:
    assert dict(zip(names, make_keys(names), strict=True)) == dict(
        zip(names[::-1], make_keys(names[::-1]), strict=True)
    )


def test_plain_names_stay_readable() -> None:
    assert make_keys(["n01/0001_01.jpg", "n01/0002_01.JPEG", "b c.png", "bare"]) == [
        "n01/0001_01",
        "n01/0002_01",
        "b_c",
        "bare",
    ]


def test_names_that_would_meet_get_a_hash() -> None:
    first, second, third = make_keys(["a.jpg", "a.png", "b.jpg"])
    assert first != second
    assert first.startswith("a-")
    assert second.startswith("a-")
    assert third == "b"
