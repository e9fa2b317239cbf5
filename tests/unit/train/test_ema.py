import copy

import torch

from fra_dist.config import DecoderConfig, ModelConfig
from fra_dist.models.fra import FRA
from fra_dist.train.optim.ema import update_target


def test_parameters_follow_and_buffers_do_not():
    torch.manual_seed(0)
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16, query_offset=True)
    model = FRA(ModelConfig(backbone="tiny", regions=3, width=16, hidden=16, decoder=decoder))
    for parameter in model.online.parameters():
        parameter.data += torch.randn_like(parameter)
    for buffer in model.online.buffers():
        buffer += 1
    online = {name: value.clone() for name, value in model.online.state_dict().items()}
    target = {name: value.clone() for name, value in model.target.state_dict().items()}
    update_target(model, 0.9)
    names = {name for name, _ in model.target.named_parameters()}
    for name, value in model.target.state_dict().items():
        if name in names:
            torch.testing.assert_close(value, 0.9 * target[name] + 0.1 * online[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, target[name]), name
    assert all(torch.equal(value, online[name]) for name, value in model.online.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_momentum_1_keeps_the_target_and_0_copies():
    model = FRA(ModelConfig(backbone="tiny", width=16, hidden=16, decoder=None))
    for parameter in model.online.parameters():
        parameter.data += 1
    before = [p.clone() for p in model.target.parameters()]
    update_target(model, 1.0)
    assert all(torch.equal(p, q) for p, q in zip(model.target.parameters(), before, strict=True))
    update_target(model, 0.0)
    assert all(torch.equal(p, q) for p, q in zip(model.target.parameters(), model.online.parameters(), strict=True))


def test_a_step_that_was_not_applied_leaves_the_target_and_one_that_was_is_the_same_to_the_bit():
    model = FRA(ModelConfig(backbone="tiny", width=16, hidden=16, decoder=None))
    for parameter in model.online.parameters():
        parameter.data += torch.randn_like(parameter)
    before = [p.clone() for p in model.target.parameters()]
    update_target(model, 0.99, torch.tensor(0.0))
    assert all(torch.equal(p, q) for p, q in zip(model.target.parameters(), before, strict=True))
    twin = copy.deepcopy(model)
    update_target(model, 0.99, torch.tensor(1.0))
    update_target(twin, 0.99)
    assert all(torch.equal(p, q) for p, q in zip(model.target.parameters(), twin.target.parameters(), strict=True))
    assert not torch.equal(next(model.target.parameters()), before[0])
