import pytest
import torch

from fra_dist.config import DecoderConfig, ModelConfig, ReviveConfig
from fra_dist.distributed import SINGLE
from fra_dist.layouts.published_names import to_published, without_counterpart
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.fra import FRA
from fra_dist.models.revival import Revival

Q, WIDTH = 4, 8


def decoders(query_offset=True):
    torch.manual_seed(0)
    config = DecoderConfig(layers=1, heads=2, feedforward=8, dropout=0.0, query_offset=query_offset)
    return [RegionDecoder(5, WIDTH, Q, config, movable=True) for _ in range(2)]


def seen(*counts):
    """Similarities (1, Q, 1, pixels) where region q wins counts[q] pixels."""
    winners = torch.repeat_interleave(torch.arange(Q), torch.tensor(counts))
    return torch.nn.functional.one_hot(winners, Q).T[None, :, None].float()


def one_step(revival, online, target, *counts, seed=1):
    revival.note([seen(*counts), seen(*counts)])
    revival.update(online, target, seed)


def shifts(decoder):
    return [shift.clone() for _, shift in decoder.shifted()]


def build(steps=3, share=0.1, noise=0.5):
    return Revival(ReviveConfig(share=share, steps=steps, noise=noise), Q, SINGLE)


def test_a_region_starts_anew_after_so_many_dead_steps_in_a_row():
    online, target = decoders()
    revival = build()
    for _ in range(2):
        one_step(revival, online, target, 11, 59, 5, 25)  # region 2 holds 5 % of the pixels
    assert revival.idle.tolist() == [0, 0, 2, 0]
    one_step(revival, online, target, 11, 54, 15, 20)  # alive for once
    assert revival.idle.tolist() == [0, 0, 0, 0]
    for _ in range(2):
        one_step(revival, online, target, 11, 59, 5, 25)
    assert all(not shift.any() for shift in shifts(online))
    assert revival.revived == 0
    one_step(revival, online, target, 11, 59, 5, 25)
    assert revival.idle.tolist() == [0, 0, 0, 0]
    assert revival.revived == 1
    for (weight, shift), (_, followed) in zip(online.shifted(), target.shifted(), strict=True):
        assert not shift[[0, 1, 3]].any()
        assert torch.equal(shift, followed)
        apart = weight[2] + shift[2] - weight[1]
        assert 0 < apart.norm() < 3 * 0.5 * weight.std() * WIDTH**0.5


def test_without_noise_the_new_query_is_that_of_the_largest_region():
    online, target = decoders()
    revival = build(steps=1, noise=0.0)
    one_step(revival, online, target, 0, 30, 70, 0)
    for weight, shift in online.shifted():
        now = weight + shift
        torch.testing.assert_close(now[[0, 1, 3]], weight[[2, 1, 2]])
    one_step(revival, online, target, 80, 0, 20, 0)  # from where the shifted ones are by now
    for weight, shift in online.shifted():
        torch.testing.assert_close(weight + shift, weight[[2, 2, 2, 2]])
    assert revival.revived == 4


def test_the_noise_is_a_function_of_the_seed():
    found = []
    for seed in (1, 1, 2):
        online, target = decoders(query_offset=False)
        one_step(build(steps=1), online, target, 0, 100, 0, 50, seed=seed)
        found.append(shifts(online)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0][0], found[2][0])
    assert not torch.equal(found[0][0] + online.queries[0], found[0][2] + online.queries[2])


def test_passes_of_a_step_count_together():
    online, target = decoders()
    revival = build(steps=1, share=0.3)
    revival.note([seen(100, 0, 0, 0), seen(0, 100, 0, 0)])
    revival.note([seen(100, 0, 0, 0), seen(0, 100, 0, 0)])
    revival.update(online, target, 1)
    assert revival.revived == 2


def test_the_decoder_uses_the_shift():
    online, _ = decoders()
    features = torch.randn(2, 5, 3, 4)
    plain = online(features)
    online.query_shift[1] += 1
    moved = online(features)
    assert not torch.allclose(plain[:, 1], moved[:, 1])
    online.query_shift.zero_()
    online.offset_shift[2] = 1
    torch.testing.assert_close(online(features)[:, 2], plain[:, 2] + 1)


@pytest.fixture(scope="module")
def config():
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16)
    return ModelConfig(backbone="tiny", regions=5, width=16, hidden=24, decoder=decoder)


def test_state_is_there_only_when_asked_for(config):
    plain = FRA(config)
    assert plain.revival is None
    movable = FRA(config.model_copy(update={"revive_dead": ReviveConfig()}))
    more = movable.state_dict().keys() - plain.state_dict().keys()
    own = {f"{network}.decoder.query_shift" for network in ("online", "target")}
    assert more == own | {"revival.idle", "revival.revived"}


def test_the_model_notes_its_regions_in_training_alone(config):
    model = FRA(config.model_copy(update={"revive_dead": ReviveConfig(share=1.0, steps=1)}))
    views = torch.randn(2, 3, 3, 32, 32)
    output = model(*views)
    hard = torch.cat([view.similarity for view in output.online]).argmax(dim=1).flatten()
    torch.testing.assert_close(model.revival.seen / 2, hard.bincount(minlength=5) / len(hard))
    model.revive_regions(seed=3)
    assert model.revival.revived == 5
    model.eval()
    model(*views)
    model.revive_regions(seed=4)
    assert model.revival.revived == 5


def test_weights_in_the_published_form_hold_the_shift(config):
    model = FRA(config.model_copy(update={"revive_dead": ReviveConfig(share=1.0, steps=1)}))
    model(*torch.randn(2, 3, 3, 32, 32))
    model.revive_regions(seed=3)
    found = to_published(model.state_dict())["online_net.neck.proj_attn.query_embed.weight"]
    torch.testing.assert_close(found, model.online.decoder.queries + model.online.decoder.query_shift)
    offset = config.decoder.model_copy(update={"query_offset": True})
    state = FRA(config.model_copy(update={"decoder": offset, "revive_dead": ReviveConfig()})).state_dict()
    assert not [name for name in to_published(state) if "offset" in name]
    assert "query_offset has no counterpart" in (without_counterpart(state) or "")
