"""Checks of the decoder's attention kernels against the reference in float64, shared by interpreter and GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.decoder_attention import decoder_attention

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Largest error over the largest value."""
NAMES = ("pooled", "total", "shift", "d rows", "d memory", "d total by the bias", "d bias")


@dataclass(frozen=True)
class Case:
    batch: int
    rows: int
    pixels: int
    width: int
    dropout: float = 0.0
    dtype: torch.dtype = torch.float32
    sharp: float = 1.0
    """How large the scores are."""
    heads: int = 1

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """rows (B, R, D), R being heads times queries, memory, code, keep."""
        generator = torch.Generator().manual_seed(self.rows + self.pixels)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        rows = draw(self.batch, self.rows, self.width) * self.sharp
        memory, code = draw(self.batch, self.pixels, self.width), draw(self.pixels, self.width)
        keep = None
        if self.dropout:
            keep = (torch.rand(self.batch, self.rows, self.pixels, generator=generator) >= self.dropout).to(device)
        rows, memory = (x.to(device, self.dtype) for x in (rows, memory))
        return rows, memory, code.to(device, self.dtype), keep

    def others(self, device: str = "cpu") -> tuple[Tensor, ...]:
        """The values' bias (D,), and gradients of pooled rows (B, R, D), sums (B, R) and the result (B, Q, D)."""
        generator = torch.Generator().manual_seed(1)
        shapes = (self.batch, self.rows, self.width), (self.batch, self.rows)
        d_pooled, d_total, d_out = (
            torch.randn(shape, generator=generator).to(device, self.dtype)
            for shape in (*shapes, (self.batch, self.rows // self.heads, self.width))
        )
        return torch.randn(self.width, generator=generator).to(device), d_pooled, d_total.float(), d_out

    def scales(self) -> tuple[float, float]:
        return 3.0 / self.width**0.5, 1 / (1 - self.dropout)


CASES = {
    "7x7": Case(3, 40, 49, 64),
    "dropout": Case(2, 20, 50, 48, dropout=0.3),
    "heads": Case(3, 40, 30, 64, dropout=0.3, heads=8),
    "odd heads": Case(3, 21, 30, 60, dropout=0.3, heads=3),
    "one pixel": Case(2, 16, 1, 32, dropout=0.5),
    "one row": Case(2, 1, 65, 20),
    "wide": Case(1, 17, 33, 240),
    "sharp": Case(2, 9, 70, 40, sharp=40.0),
    "one sharp pixel": Case(2, 16, 1, 32, sharp=40.0),
    "many rows": Case(1, 130, 20, 136, dropout=0.1, heads=2),
    "many queries": Case(30, 12, 3, 24, dropout=0.2, heads=2),
    "fp16": Case(2, 24, 49, 64, dropout=0.2, dtype=torch.float16, heads=4),
    "bf16": Case(2, 24, 49, 64, dropout=0.2, dtype=torch.bfloat16, heads=4),
}


def run(case: Case, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], others: tuple[Tensor, ...]) -> list[Tensor]:
    """What the kernels give, forward and backward, in the order of NAMES and by images: (B, R, ...)."""
    from fra_dist.kernels.decoder_attention import launch

    rows, memory, code, keep = inputs
    bias, d_pooled, d_total, d_out = others
    scales, rows = case.scales(), _by_heads(rows, case.heads)
    pooled, total, logsum, shift = launch.forward(rows, memory, code, keep, bias, *scales)
    given = _by_heads(d_pooled, case.heads), _by_heads(d_total, case.heads)
    d_rows, d_memory = launch.backward(*given, rows, memory, code, keep, pooled, total, logsum, *scales)
    by_bias, d_bias = launch.bias_backward(d_out, total, bias)
    pooled, total, d_rows, by_bias = (x.movedim(0, 1).flatten(1, 2) for x in (pooled, total, d_rows, by_bias))
    return [pooled, total, shift, d_rows, d_memory, by_bias, d_bias]


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """(B, R, ...) -> (H, B, Q, ...)"""
    return x.unflatten(1, (heads, -1)).movedim(1, 0).contiguous()


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    inputs, others = case.inputs(device), case.others(device)
    wrong = {}
    for name, ours, exact in zip(NAMES, run(case, inputs, others), _exact(case, inputs, others), strict=True):
        limit = TOLERANCE[case.dtype] * max(1.0, case.sharp)
        error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1.0))
        if not error <= limit:
            wrong[name] = error
    assert not wrong, wrong


def _exact(
    case: Case, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], others: tuple[Tensor, ...]
) -> list[Tensor]:
    """The formula in float64. Keys are rounded to the type of the map: that is what the kernels compute with."""
    rows, memory, code, keep = inputs
    offset = ((memory.float() + code).to(memory.dtype)).double() - memory.double()
    rows, memory = (x.double().requires_grad_() for x in (rows, memory))
    bias, d_pooled, d_total, d_out = (x.double() for x in others)
    bias.requires_grad_()
    scale, keep_scale = case.scales()
    weights = (rows @ (memory + offset).transpose(1, 2) * scale).softmax(dim=2)
    weights = weights if keep is None else weights * keep * keep_scale
    pooled, total = weights @ memory, weights.sum(dim=2)
    d_rows, d_memory = torch.autograd.grad((pooled, total), (rows, memory), (d_pooled, d_total), retain_graph=True)
    sums = total.unflatten(1, (case.heads, -1)).transpose(1, 2)
    shift = (sums[..., None] * bias.view(case.heads, -1)).flatten(2)
    by_bias, d_bias = torch.autograd.grad(shift, (total, bias), d_out)
    return [pooled, total, shift, d_rows, d_memory, by_bias, torch.cat([torch.zeros_like(d_bias), d_bias])]


def layer(batch: int, queries: int, pixels: int, width: int, device: str = "cpu") -> list[Tensor]:
    """queries, memory, code, weight, bias of a whole layer."""
    generator = torch.Generator().manual_seed(queries)
    shapes = ((batch, queries, width), (batch, pixels, width), (pixels, width), (3 * width, width), (3 * width,))
    return [(torch.randn(shape, generator=generator) / len(shape)).to(device) for shape in shapes]


def check_layer(device: str = "cpu") -> None:
    """The whole of the attention, with gradients of weights and biases, chosen by itself and insisted on, also of
    tensors that are not contiguous."""
    tensors = layer(2, 5, 19, 40, device)
    strided = [x if x.dim() == 1 else x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in tensors]
    for dropout in (0.0, 0.3):
        keep = (torch.rand(2, 4, 5, 19, generator=torch.Generator().manual_seed(5)) >= dropout).to(device)
        outcomes = []
        for path, given, dtype in (
            ("triton", tensors, torch.float32),
            ("auto", tensors, torch.float32),
            ("auto", strided, torch.float32),
            ("auto", tensors, torch.float64),
        ):
            inputs = [x.to(dtype).detach().requires_grad_() for x in given]
            before = dispatch.launches.copy()
            with force(path):
                out = decoder_attention(*inputs, 4, dropout=dropout, keep=keep if dropout else None)
            chosen = [x for i, x in enumerate(inputs) if i != 2]
            outcomes.append([out, *torch.autograd.grad(out.sin().sum(), chosen)])
            count = dispatch.launches - before
            assert sum(count.values()) == (2 if dtype == torch.float32 else 0)
        for result, again, other, exact in zip(*outcomes, strict=True):
            torch.testing.assert_close(result, again, rtol=0, atol=0)
            torch.testing.assert_close(result, other, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-5)
    assert describe()["decoder_attention"].path == "reference"  # of float64


def check_autocast(device: str = "cpu") -> None:
    """In bf16 and fp16, and with maps in fp32: the dtype of a linear layer, gradients in that of their tensor."""
    exact = [x.double().requires_grad_() for x in layer(2, 5, 19, 40)]
    wanted = decoder_attention(*exact, 4)
    right = torch.autograd.grad(wanted.sin().sum(), [x for i, x in enumerate(exact) if i != 2])
    for dtype, of_map in ((torch.bfloat16,) * 2, (torch.float16,) * 2, (torch.bfloat16, torch.float32)):
        inputs = [x.requires_grad_() for x in layer(2, 5, 19, 40, device)]
        before = dispatch.launches.copy()
        with torch.autocast(device, dtype):
            out = decoder_attention(inputs[0], inputs[1].to(of_map), *inputs[2:], 4)
        assert out.dtype == dtype
        found = torch.autograd.grad(out.float().sin().sum(), [x for i, x in enumerate(inputs) if i != 2])
        assert dispatch.launches - before == {"decoder_attention": 1, "decoder_attention_backward": 1}
        assert {x.dtype for x in found} == {torch.float32}
        for ours, true in zip((out, *found), (wanted, *right), strict=True):
            assert float((ours.double().cpu() - true).norm() / true.norm()) < 0.03


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference."""
    case = CASES["7x7"]
    for number in range(2):
        inputs, others = case.inputs(device), case.others(device)
        inputs[number][1, 3, 5] = torch.nan
        for name, ours, right in zip(NAMES, run(case, inputs, others), _exact(case, inputs, others), strict=True):
            assert torch.equal(ours.isnan(), right.isnan()), (number, name)


OTHERS = ("several blocks", "layer", "autocast", "NaN", "operators", "torch.compile", "refusals", "same mask")
"""Checks of `interpreted.py` beside CASES."""
