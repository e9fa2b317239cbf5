import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.train.engines.deepspeed_options import deepspeed_dictionary
from fra_dist.train.sizes import derive_sizes


def dictionary(*overrides: str, dtype: torch.dtype = torch.float32) -> dict:
    config = load_config(None, ["train.global_batch=24", "train.micro_batch=4", *overrides])
    return deepspeed_dictionary(config, derive_sizes(config, 1000, 3), dtype)


def test_sizes_stage_and_precision_come_from_our_settings():
    found = dictionary("train.zero_stage=2", "optim.clip=1.5", dtype=torch.bfloat16)
    assert found["train_batch_size"] == 24
    assert found["train_micro_batch_size_per_gpu"] * found["gradient_accumulation_steps"] * 3 == 24
    assert found["zero_optimization"]["stage"] == 2
    assert found["gradient_clipping"] == 0.0  # ours clips, and DeepSpeed must not do so again
    assert found["torch_autocast"]["enabled"]
    assert not dictionary()["torch_autocast"]["enabled"]


def test_keys_that_we_do_not_have_are_merged():
    extra = "train.deepspeed={wall_clock_breakdown: true, zero_optimization: {overlap_comm: true}}"
    found = dictionary("train.zero_stage=1", extra)
    assert found["wall_clock_breakdown"] is True
    assert found["zero_optimization"]["overlap_comm"] is True
    assert found["zero_optimization"]["stage"] == 1


def test_its_timer_that_synchronises_is_off_unless_asked_for():
    assert dictionary()["timers"] == {"throughput": {"enabled": False}}
    asked = dictionary("train.deepspeed={timers: {throughput: {enabled: true}}}")
    assert asked["timers"]["throughput"]["enabled"] is True


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("{gradient_clipping: 1.0}", "gradient_clipping is generated: set optim.clip"),
        ("{train_batch_size: 8}", "train_batch_size is generated: set train.global_batch"),
        ("{bf16: {enabled: true}}", "bf16 is generated: set train.precision"),
        ("{zero_optimization: {stage: 1}}", "zero_optimization.stage is generated: set train.zero_stage"),
        ("{optimizer: {type: Adam}}", "optimizer is generated: set optim.name"),
        ("{wall_clock_brakedown: true}", "wall_clock_brakedown is not a key"),
        ("{zero_optimization: 1}", "must hold keys and values"),
    ],
)
def test_what_may_not_be_added_is_refused_in_one_line(extra, said):
    with pytest.raises(ConfigError, match=said) as caught:
        dictionary(f"train.deepspeed={extra}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.zero_stage=3"], "use train.zero_stage=2"),
        (["train.backend=torch", "train.zero_stage=1"], "need train.backend=deepspeed"),
        (["train.backend=torch", "train.deepspeed={wall_clock_breakdown: true}"], "need train.backend=deepspeed"),
    ],
)
def test_what_cannot_be_carried_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        load_config(None, overrides)
