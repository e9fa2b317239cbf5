"""Whether a rank fits, and the micro-batch that would."""

import pytest

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.train.memory_need import MemoryNeed, check_fits, largest_micro

CONFIG = load_config(None, ["train.global_batch=512"])


def test_what_fits_is_not_refused():
    check_fits(CONFIG, 8, MemoryNeed(1e9, 1e7, 64), 1.64e9, "this machine")


def test_the_micro_batch_that_is_named_fits_and_divides():
    need = MemoryNeed(1e9, 1e8, 64)
    with pytest.raises(
        ConfigError, match=r"needs about 6\.9 GiB for 64 images .* its GPU has 3\.7 GiB.*micro_batch=16,"
    ):
        check_fits(CONFIG, 8, need, 4e9, "its GPU")  # 30 images fit, of which 16 divide 64
    assert largest_micro(CONFIG, 8, need.most_images(4e9)) == 16


def test_a_model_that_fits_at_no_size():
    with pytest.raises(ConfigError, match="even 2 images do not fit"):
        check_fits(CONFIG, 8, MemoryNeed(1e10, 1e8, 64), 4e9, "its GPU")
