"""Whether a rank fits, and the micro-batch that would."""

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.models.fra import FRA
from fra_dist.train.dry_run import _fixed, _forward, _measure, measured_need
from fra_dist.train.memory_need import BF16_SHARE, MemoryNeed, check_fits, largest_micro

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


def test_what_is_measured_before_a_launch_is_what_a_whole_step_keeps():
    config = load_config("debug_cpu")
    model = FRA(config.model).train()
    _, once, kept = _measure(config, model, torch.device("cpu"), 2)
    need = measured_need(config, 8, world=1, gpu=False)
    assert need.per_image == pytest.approx(kept + once / 2)
    assert 1e5 < kept < need.per_image < 1.1 * kept
    assert need.fixed == _fixed(config, model, 1) > 0


def test_a_gpu_does_not_keep_what_its_kernels_make_again():
    """`tiny` has two blocks with a map of 64 channels and stride 8 between a norm and a convolution; of two views."""
    between = 2 * 2 * 64 * (load_config("debug_cpu").data.image_size // 8) ** 2 * 4
    for option, less in (("train.channels_last=true", between), ("train.channels_last=false", 0)):
        config = load_config("debug_cpu", [option, "train.precision=auto"])
        kept = measured_need(config, 8, world=1, gpu=False).per_image
        on_gpu = measured_need(config, 8, world=1, gpu=True).per_image
        assert on_gpu == pytest.approx(BF16_SHARE * (kept - less))


@pytest.mark.parametrize(("precision", "bytes_of_copies"), [("fp32", 0), ("bf16", 2)])
@pytest.mark.parametrize("images", [2, 3, 8])
def test_rounded_copies_of_weights_count_once_whatever_the_number_of_images(images, precision, bytes_of_copies):
    config = load_config("debug_cpu", [f"train.precision={precision}"])
    model = FRA(config.model).train()
    _, once, each = _measure(config, model, torch.device("cpu"), images)
    copies = bytes_of_copies * sum(p.numel() for p in model.parameters() if p.requires_grad and p.dim() > 1)
    assert copies <= once < copies + 0.05 * 2**20
    _, kept = _forward(config, model, torch.device("cpu"), 20)
    assert once + 20 * each == pytest.approx(kept, rel=0.01)
