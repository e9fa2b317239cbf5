import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.train.sizes import derive_sizes


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
        (["train.global_batch=12", "train.micro_batch=5"], 1, "use 3 or 4 or 6"),
        (["train.global_batch=4"], 4, "too few for batch norm"),
        (["train.global_batch=10", "train.steps=5", "optim.warmup_steps=5"], 1, "warm-up takes 5 of 5"),
    ],
)
def test_what_cannot_work_is_refused(overrides, world, named):
    with pytest.raises(ConfigError, match=named):
        derive_sizes(load_config(None, overrides), 100, world)


def test_published_recipe():
    sizes = derive_sizes(load_config(None), 3_141_890, 8)
    assert (sizes.total_steps, sizes.warmup_steps) == (306_825, 61_365)
