import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.train.sizes import accumulation_note, derive_sizes, share_of_rank, worlds_that_fit


@given(st.integers(1, 8), st.integers(1, 6), st.integers(2, 16), st.integers(0, 5000))
def test_parts_multiply_to_the_global_batch(world, accumulation, micro, extra):
    batch = world * accumulation * micro
    config = load_config(None, [f"train.global_batch={batch}", f"train.micro_batch={micro}"])
    sizes = derive_sizes(config, batch + extra, world)
    assert (sizes.accumulation, sizes.micro_batch, sizes.per_rank) == (accumulation, micro, accumulation * micro)
    assert sizes.lr == pytest.approx(0.9 * batch / 512)
    assert sizes.total_steps == max(1, round(50 * (batch + extra) / batch))


@pytest.mark.parametrize(
    ("overrides", "world", "named"),
    [
        (["train.global_batch=512"], 1, "holds 100 samples"),
        (["train.global_batch=10"], 3, "use 1 or 2 or 5 ranks"),
        (["train.global_batch=14", "train.micro_batch=6"], 1, "in passes of 3 to 6 images .* use 7 ranks"),
        (["train.global_batch=13", "train.micro_batch=5"], 1, "over any number of ranks: set train.micro_batch to 13"),
        (["train.global_batch=4"], 4, "over 4 ranks .*use 1 or 2 ranks"),
        (["train.global_batch=10", "train.steps=5", "optim.warmup_steps=5"], 1, "warm-up takes 5 of 5"),
    ],
)
def test_what_cannot_work_is_refused(overrides, world, named):
    with pytest.raises(ConfigError, match=named):
        derive_sizes(load_config(None, overrides), 100, world)


def test_published_recipe():
    sizes = derive_sizes(load_config(None), 3_141_890, 8)
    assert (sizes.total_steps, sizes.warmup_steps) == (306_825, 61_365)


def test_fewer_ranks_take_more_passes_of_no_more_images():
    config = load_config(None, ["train.global_batch=24", "train.micro_batch=6"])
    sizes = [derive_sizes(config, 100, world) for world in (4, 2, 3, 1)]
    assert [(s.per_rank, s.micro_batch, s.accumulation) for s in sizes] == [
        (6, 6, 1),
        (12, 6, 2),
        (8, 4, 2),
        (24, 6, 4),
    ]


@given(st.integers(2, 300), st.integers(1, 64), st.integers(1, 40))
def test_a_pass_stays_within_bounds_and_the_error_names_sizes_that_work(batch, micro, world):
    config = load_config(None, [f"train.global_batch={batch}", f"train.micro_batch={micro}"])
    fit = worlds_that_fit(config)
    if world in fit:
        share, size = share_of_rank(config, world)
        assert share * world == batch
        assert share % size == 0
        assert max(2, min(micro, share) / 2) <= size <= min(micro, share)
        return
    with pytest.raises(ConfigError) as error:
        share_of_rank(config, world)
    named = str(error.value).partition(": use ")[2].partition(" ranks")[0]
    assert not fit or set(map(int, named.split(" or "))) <= set(fit)


def test_accumulation_is_explained_where_there_is_any():
    assert accumulation_note(derive_sizes(load_config(None, ["train.global_batch=24"]), 100, 2)) is None
    config = load_config(None, ["train.global_batch=24", "train.micro_batch=4"])
    note = accumulation_note(derive_sizes(config, 100, 2))
    assert note.startswith("3 forward passes")
    assert "see 8 images at a time, not 24" in note
