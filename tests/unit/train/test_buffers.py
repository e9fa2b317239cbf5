import torch
from torch import nn

from fra_dist.train.engines.kept_buffers import KeptBuffers


def test_buffers_of_every_type_go_back_unless_the_step_was_applied():
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.BatchNorm2d(5)).train()
    model.register_buffer("scalar", torch.tensor(2.0))
    kept = KeptBuffers(model)
    for applied in (1.0, 0.0):
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        kept.remember()
        model(torch.full((2, 3, 4, 4), float("nan") if applied == 0 else 1.5))
        model.scalar += 1
        kept.restore_unless(torch.tensor(applied))
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, before[name]) == (applied == 0), name
            assert buffer.isfinite().all()
    assert model[1].num_batches_tracked.item() == 1


def test_a_model_without_buffers():
    kept = KeptBuffers(nn.Linear(2, 2))
    kept.remember()
    kept.restore_unless(torch.tensor(0.0))
