import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fra_dist.config import DecoderConfig
from fra_dist.kernels.residual_norm import Normed
from fra_dist.models.decoder import Attention, CrossAttention, DecoderLayer, RegionDecoder, position_code
from fra_dist.models.dropout import ImageDropout


def scalar_code(row, column, height, width, size):
    """One place of the code, number by number."""
    out = []
    for place, length in ((row + 1, height), (column + 1, width)):
        angle = place / (length + 1e-6) * 2 * math.pi
        for j in range(size // 2):
            value = angle / 10000 ** (2 * (j // 2) / (size // 2))
            out.append(math.sin(value) if j % 2 == 0 else math.cos(value))
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.data())
def test_position_code_is_the_formula(height, width, half, data):
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    code = position_code(height, width, 2 * half, torch.device("cpu"))
    assert code.shape == (height * width, 2 * half)
    assert code.dtype == torch.float32
    expected = torch.tensor(scalar_code(row, column, height, width, 2 * half))
    torch.testing.assert_close(code[row * width + column], expected, rtol=1e-5, atol=1e-5)


def test_a_position_code_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        position_code(3, 11, 8, torch.device("cpu"))
    weight = torch.randn(8, requires_grad=True)
    (position_code(3, 11, 8, torch.device("cpu")) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(("width", "heads", "queries", "pixels"), [(8, 1, 5, 6), (12, 4, 2, 35), (32, 8, 8, 49)])
def test_attention_is_multi_head_attention(width, heads, queries, pixels):
    torch.manual_seed(0)
    ours = Attention(width, heads, ImageDropout(0.0)).double()
    nn.init.normal_(ours.in_weight)
    nn.init.normal_(ours.in_bias)
    nn.init.normal_(ours.out.bias)
    theirs = nn.MultiheadAttention(width, heads, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.in_weight,
            "in_proj_bias": ours.in_bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    q, k, v = (torch.randn(3, n, width, dtype=torch.float64) for n in (queries, pixels, pixels))
    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v)[0], rtol=1e-10, atol=1e-12)


def test_a_layer_is_post_norm():
    """With codes of zero it is torch's own post-norm decoder layer."""
    torch.manual_seed(0)
    ours = DecoderLayer(12, 3, 20, ImageDropout(0.0)).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerDecoderLayer(12, 3, 20, dropout=0.0, batch_first=True).double()
    renamed = {"self_attention": "self_attn", "cross_attention": "multihead_attn", "in_weight": "in_proj_weight"}
    renamed |= {"in_bias": "in_proj_bias", "out": "out_proj"}
    state = {".".join(renamed.get(p, p) for p in name.split(".")): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    target, memory = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 6, 12, dtype=torch.float64)
    queries = torch.zeros(5, 12, dtype=torch.float64)
    code = torch.zeros(6, 12, dtype=torch.float64)
    found = ours(Normed(target, target, target + queries), queries, memory, code)
    torch.testing.assert_close(found.output, theirs(target, memory), rtol=1e-10, atol=1e-12)
    assert found.asked is None


def decoder(**options):
    torch.manual_seed(0)
    settings = {"layers": 2, "heads": 2, "feedforward": 12, "dropout": 0.0, **options}
    return RegionDecoder(6, 8, 5, DecoderConfig(**settings)).double()


def test_the_position_code_is_on_the_keys_alone():
    """The decoder is its layers, called with a target of zeros, queries as codes, values without position code."""
    module = decoder()
    features = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    memory = functional.linear(
        features.flatten(2).transpose(1, 2), module.input_projection.weight, module.input_projection.bias
    )
    keys = memory + position_code(3, 4, 8, features.device)
    attend = Attention.forward  # with keys and values as they are given
    target = torch.zeros(2, 5, 8, dtype=torch.float64)
    for layer in module.layers:
        asked = target + module.queries
        target = layer.norm1(target + layer.self_attention(asked, asked, target))
        target = layer.norm2(target + attend(layer.cross_attention, target + module.queries, keys, memory))
        target = layer.norm3(target + layer.linear2(layer.linear1(target).relu()))
    one, two, three = module.embed
    expected = three(two(one(module.norm(target)).relu()).relu())
    torch.testing.assert_close(module(features), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.3, 0.0])
def test_on_a_cpu_a_layer_is_its_formula_to_the_bit(dtype, share):
    """Output, gradients and the numbering of dropout calls, with and without autocast."""
    module = decoder(dropout=share).float()
    features, given, keys = torch.randn(6, 6, 3, 4), torch.randn(6, 5, 8), torch.tensor([5, 6, 7])

    def formula():
        dropout, memory = module.dropout, module.input_projection(features.flatten(2).transpose(1, 2))
        code = position_code(3, 4, 8, features.device, memory.dtype)
        target = module.queries.new_zeros(6, 5, 8)
        for layer in module.layers:
            asked = target + module.queries
            target = layer.norm1(target + dropout(layer.self_attention(asked, asked, target)))
            target = layer.norm2(target + dropout(layer.cross_attention(target + module.queries, memory, code)))
            hidden = dropout(functional.relu(layer.linear1(target)))
            target = layer.norm3(target + dropout(layer.linear2(hidden)))
        one, two, three = module.embed
        return three(functional.relu(two(functional.relu(one(module.norm(target))))))

    results = []
    for run in (formula, lambda: module(features)):
        module.dropout.start(keys)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = run()
        assert module.dropout.calls == (2 * DecoderLayer.DROPOUTS if share else 0)
        results.append([out, *torch.autograd.grad(out, list(module.parameters()), given.to(out.dtype))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("shape", [(1, 6, 2, 2), (2, 6, 3, 7), (3, 6, 9, 1)])
def test_any_map(shape):
    out = decoder(layers=1)(torch.randn(shape, dtype=torch.float64))
    assert out.shape == (shape[0], 5, 8)


def test_centred_queries_sum_to_zero():
    out = decoder(centre_queries=True)(torch.randn(2, 6, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(out.sum(dim=1), torch.zeros(2, 8, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_query_offset_starts_orthonormal_and_is_added_last():
    features = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    module = decoder(centre_queries=True, query_offset=True)
    offset = module.query_offset.detach().clone()
    torch.testing.assert_close(offset @ offset.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
    with_offset = module(features)
    module.query_offset.data.zero_()
    torch.testing.assert_close(with_offset - module(features), offset.expand(2, 5, 8), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("heads", "queries"), [(2, 5), (4, 2), (2, 2)])
def test_cross_attention_is_attention_with_coded_keys_and_drops_the_same(heads, queries):
    """Whether the queries are few, so that the map is pooled as it is, or not."""
    torch.manual_seed(0)
    dropout = ImageDropout(0.4, span=1)
    ours = CrossAttention(8, heads, dropout).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    query, memory = torch.randn(6, queries, 8, dtype=torch.float64), torch.randn(6, 7, 8, dtype=torch.float64)
    code = torch.randn(7, 8, dtype=torch.float64)
    keys = torch.tensor([5, 6, 7])  # two views of three images
    dropout.start(keys)
    expected = Attention.forward(ours, query, memory + code, memory)
    dropout.start(keys)
    found = ours(query, memory, code)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert dropout.calls == 1
    dropout.start(None)
    assert not torch.equal(ours(query, memory, code), ours(query, memory, code))
    ours.eval()
    expected = Attention.forward(ours, query, memory + code, memory)
    torch.testing.assert_close(ours(query, memory, code), expected, rtol=1e-10, atol=1e-12)


def test_a_pass_calls_the_dropout_as_often_as_it_says():
    module = RegionDecoder(6, 8, 5, DecoderConfig(layers=3, heads=2, feedforward=12))
    module.dropout.start(torch.arange(2))
    module(torch.randn(2, 6, 3, 3))
    assert module.dropout.calls == module.dropout.span == 18


def test_dropout_only_in_training():
    features = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    module = decoder(dropout=0.5)
    assert not torch.equal(module(features), module(features))
    module.eval()
    assert torch.equal(module(features), module(features))


def test_the_start():
    torch.manual_seed(0)
    module = RegionDecoder(100, 64, 40, DecoderConfig(heads=4, feedforward=96))
    bounds = {
        "input_projection.weight": (3 / 100) ** 0.5,
        "layers.0.self_attention.in_weight": (6 / (64 + 192)) ** 0.5,
        "layers.1.cross_attention.out.weight": (6 / 128) ** 0.5,
        "layers.1.linear1.weight": (6 / (64 + 96)) ** 0.5,
        "embed.1.weight": (1 / 64) ** 0.5,
    }
    for name, bound in bounds.items():
        weight = module.get_parameter(name)
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.02), name
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
    assert module.queries.std().item() == pytest.approx(1, rel=0.05)
    for name in ("input_projection.bias", "layers.0.self_attention.in_bias", "layers.0.cross_attention.out.bias"):
        assert not module.get_parameter(name).any(), name
    assert module.query_offset is None
