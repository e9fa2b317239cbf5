"""Checks of the decoder's attention kernels against the reference in float64, shared by interpreter and GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.decoder_attention import decoder_attention, reference

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Largest error over the largest value."""
NAMES = ("pooled", "total", "d rows", "d memory")


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
    strided: bool = False

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """rows, memory, code, keep."""
        generator = torch.Generator().manual_seed(self.rows + self.pixels)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        rows = draw(self.batch, self.rows, self.width) * self.sharp
        memory, code = draw(self.batch, self.pixels, self.width), draw(self.pixels, self.width)
        keep = None
        if self.dropout:
            keep = (torch.rand(self.batch, self.rows, self.pixels, generator=generator) >= self.dropout).to(device)
        rows, memory = (x.to(device, self.dtype) for x in (rows, memory))
        if self.strided:
            rows, memory = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (rows, memory))
        return rows, memory, code.to(device, self.dtype), keep

    def scales(self) -> tuple[float, float]:
        return 3.0 / self.width**0.5, 1 / (1 - self.dropout)


CASES = {
    "7x7": Case(3, 40, 49, 64),
    "dropout": Case(2, 20, 50, 48, dropout=0.3),
    "one pixel": Case(2, 16, 1, 32, dropout=0.5),
    "one row": Case(2, 1, 65, 20),
    "wide": Case(1, 17, 33, 240),
    "sharp": Case(2, 9, 70, 40, sharp=40.0),
    "one sharp pixel": Case(2, 16, 1, 32, sharp=40.0),
    "many rows": Case(1, 130, 20, 136, dropout=0.1),
    "strided": Case(2, 12, 18, 24, strided=True),
    "fp16": Case(2, 24, 49, 64, dropout=0.2, dtype=torch.float16),
    "bf16": Case(2, 24, 49, 64, dropout=0.2, dtype=torch.bfloat16),
}


def run(pool: object, case: Case, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None]) -> list[Tensor]:
    """Outputs and gradients in the order of NAMES."""
    rows, memory, code, keep = inputs
    tensors = [x.detach().requires_grad_() for x in (rows, memory)]
    outputs = pool(*tensors, code, keep, *case.scales())  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(x.shape, generator=generator).to(rows.device, rows.dtype).to(x.dtype) for x in outputs]
    return [*outputs, *torch.autograd.grad(outputs, tensors, given)]


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    from fra_dist.kernels.decoder_attention.op import fused

    inputs = case.inputs(device)
    before = dispatch.launches.copy()
    found = run(fused, case, inputs)
    assert dispatch.launches - before == {"decoder_attention": 1, "decoder_attention_backward": 1}
    rows, memory, code, keep = inputs
    # the keys are rounded to the type of the map: that is what the kernels compute with
    offset = ((memory.float() + code).to(memory.dtype)).double() - memory.double()
    wanted = run(_exact(offset), case, (rows.double(), memory.double(), code.double(), keep))
    wrong = {}
    for name, ours, exact in zip(NAMES, found, wanted, strict=True):
        limit = TOLERANCE[case.dtype] * max(1.0, case.sharp)
        error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1.0))
        if not error <= limit:
            wrong[name] = error
    assert not wrong, wrong


def _exact(offset: Tensor) -> object:
    """The formula in float64, with codes that may differ from image to image."""

    def pool(
        rows: Tensor, memory: Tensor, code: Tensor, keep: Tensor | None, scale: float, keep_scale: float
    ) -> tuple[Tensor, Tensor]:
        weights = (rows @ (memory + offset).transpose(1, 2) * scale).softmax(dim=2)
        weights = weights if keep is None else weights * keep * keep_scale
        return weights @ memory, weights.sum(dim=2)

    return pool


def layer(batch: int, queries: int, pixels: int, width: int, device: str = "cpu") -> list[Tensor]:
    """queries, memory, code, weight, bias of a whole layer."""
    generator = torch.Generator().manual_seed(queries)
    shapes = ((batch, queries, width), (batch, pixels, width), (pixels, width), (3 * width, width), (3 * width,))
    return [(torch.randn(shape, generator=generator) / len(shape)).to(device) for shape in shapes]


def check_layer(device: str = "cpu") -> None:
    """The whole of the attention, with gradients of weights and biases, chosen by itself and insisted on."""
    tensors = layer(2, 5, 19, 40, device)
    outcomes = []
    for path, dtype in (("triton", torch.float32), ("auto", torch.float32), ("auto", torch.float64)):
        inputs = [x.to(dtype).requires_grad_() for x in tensors]
        before = dispatch.launches.copy()
        with force(path):
            out = decoder_attention(*inputs, 4)
        chosen = [x for i, x in enumerate(inputs) if i != 2]
        outcomes.append([out, *torch.autograd.grad(out.sin().sum(), chosen)])
        count = dispatch.launches - before
        assert sum(count.values()) == (2 if dtype == torch.float32 else 0)
    for result, again, exact in zip(*outcomes, strict=True):
        torch.testing.assert_close(result, again, rtol=0, atol=0)
        torch.testing.assert_close(result.double(), exact, rtol=1e-4, atol=1e-5)
    assert describe()["decoder_attention"].path == "reference"  # of float64


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference."""
    from fra_dist.kernels.decoder_attention.op import fused

    case = CASES["7x7"]
    for number in range(2):
        inputs = case.inputs(device)
        inputs[number][1, 3, 5] = torch.nan
        for name, ours, right in zip(NAMES, run(fused, case, inputs), run(reference, case, inputs), strict=True):
            assert torch.equal(ours.isnan(), right.isnan()), (number, name)


OTHERS = ("several blocks", "layer", "NaN", "operators", "torch.compile", "refusals", "same mask")
"""Checks of `interpreted.py` beside CASES."""
