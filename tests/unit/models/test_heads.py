import pytest
import torch
from torch import nn

from fra_dist.models.heads import MLPHead


def published_head(head: MLPHead) -> nn.Sequential:
    """The same weights as 1×1 convolutions over a sequence."""
    hidden, inputs = head.linear1.weight.shape
    outputs = len(head.linear2.weight)
    theirs = nn.Sequential(
        nn.Conv1d(inputs, hidden, 1, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Conv1d(hidden, outputs, 1, bias=False),
    ).to(head.linear1.weight.dtype)
    theirs[0].weight.data.copy_(head.linear1.weight[:, :, None])
    theirs[3].weight.data.copy_(head.linear2.weight[:, :, None])
    return theirs


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_over_pixels_is_the_convolutional_head(layout):
    torch.manual_seed(0)
    head = MLPHead(6, 10, 4).double()
    features = torch.randn(3, 6, 2, 5, dtype=torch.float64).contiguous(memory_format=layout)
    expected = published_head(head)(features.flatten(2)).unflatten(2, (2, 5))
    ours = head.over_pixels(features)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_over_regions_is_the_convolutional_head():
    torch.manual_seed(0)
    head = MLPHead(6, 10, 4).double()
    regions = torch.randn(3, 5, 6, dtype=torch.float64)
    expected = published_head(head)(regions.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(head.over_regions(regions), expected, rtol=1e-12, atol=1e-12)


def test_no_biases_and_a_kaiming_fan_out_start():
    torch.manual_seed(0)
    head = MLPHead(200, 400, 100)
    assert {name for name, _ in head.named_parameters()} == {
        "linear1.weight",
        "linear2.weight",
        "norm.weight",
        "norm.bias",
    }
    assert head.linear1.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert head.linear2.weight.std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.02)
