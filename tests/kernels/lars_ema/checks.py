"""Checks of the Triton kernels of LARS and the EMA against the reference in float64, shared by interpreter and GPU."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.lars_ema import follow, lars_ema, squares

SHAPES = ((64, 33), (7,), (), (0, 3), (5, 6, 3, 3), (1,), (30, 40), (8, 4, 1, 1), (257,), (3, 400))
Lists = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Case:
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    targets: int = 6
    dtype: torch.dtype = torch.float32
    layout: str = "dense"
    """dense, channels_last, flat (pieces of one buffer, so not aligned) or transposed (gradients only)."""
    weight_decay: float = 0.05
    trust: float = 0.7
    size: float = 1.0

    def inputs(self, device: str = "cpu") -> Lists:
        generator = torch.Generator().manual_seed(len(self.shapes))
        names = ("parameters", "gradients", "velocities", "targets")
        lists = {name: [torch.randn(shape, generator=generator) * self.size for shape in self.shapes] for name in names}
        lists["targets"] = lists["targets"][: self.targets]
        if self.shapes is SHAPES:
            lists["parameters"][4].zero_()  # a norm of 0
            lists["gradients"][6].zero_()
        return {
            name: [self._laid_out(x.to(device, self.dtype if name == "gradients" else None), name) for x in tensors]
            for name, tensors in lists.items()
        }

    def _laid_out(self, x: Tensor, name: str) -> Tensor:
        if self.layout == "channels_last" and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        if self.layout == "transposed" and x.dim() == 2 and name == "gradients":
            return x.t().contiguous().t()
        if self.layout == "flat":
            buffer = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
            return buffer[1:].copy_(x.flatten()).view(x.shape)
        return x

    def settings(self) -> dict[str, Any]:
        adapt = [number % 3 != 2 for number in range(len(self.shapes))]
        decay = [self.weight_decay * yes for yes in adapt]
        return {"weight_decay": decay, "adapt": adapt, "lr": 0.3, "momentum": 0.9, "trust": self.trust}


CASES = {
    "dense": Case(),
    "channels last": Case(layout="channels_last"),
    "not aligned": Case(layout="flat"),
    "transposed gradients": Case(layout="transposed"),
    "no targets": Case(targets=0),
    "all targets": Case(targets=len(SHAPES)),
    "no decay": Case(weight_decay=0.0),
    "one number": Case(shapes=((1,),), targets=1),
    "tiny": Case(shapes=((40,), (9, 9)), targets=2, size=1e-8),
    "bf16 gradients": Case(dtype=torch.bfloat16),
    "fp16 gradients": Case(dtype=torch.float16),
}


def twin(lists: Lists) -> Lists:
    """The same numbers in float64."""
    return {name: [x.double() for x in tensors] for name, tensors in lists.items()}


def compare(found: Lists, wanted: Lists, limit: float = 5e-6) -> None:
    wrong = {}
    for name in ("parameters", "velocities", "targets"):
        largest = max((float(x.abs().max()) for x in wanted[name] if x.numel()), default=0.0)
        for number, (ours, exact) in enumerate(zip(found[name], wanted[name], strict=True)):
            if ours.numel() == 0:
                continue
            error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(largest / 10))
            if not error <= limit:
                wrong[name, number] = error
    assert not wrong, wrong


def check(case: Case, device: str = "cpu") -> None:
    """Two steps of everything in one."""
    lists = case.inputs(device)
    exact = twin(lists)
    before = dispatch.launches.copy()
    for momentum in (0.9, 0.5):
        with force("triton"):
            lars_ema(**lists, **case.settings(), target_momentum=momentum)
        lars_ema(**exact, **case.settings(), target_momentum=momentum)
    assert dispatch.launches - before == {"lars_ema_step": 2}
    assert describe()["lars_ema"].path == "reference"  # of the float64 twin
    compare(lists, exact)


def check_squares(device: str = "cpu") -> None:
    """Sums of squares by themselves, and a step that takes them from outside: of tensors that are pieces of others."""
    for case in (CASES["dense"], CASES["not aligned"], CASES["bf16 gradients"]):
        lists = case.inputs(device)
        exact = twin(lists)
        with force("triton"):
            ours = squares(lists["parameters"], lists["gradients"])
        right = squares(exact["parameters"], exact["gradients"])
        torch.testing.assert_close(ours, right, rtol=1e-6, atol=1e-12)
        whole = right * torch.linspace(1, 3, right.shape[1], dtype=torch.float64, device=device)
        with force("triton"):
            lars_ema(**lists, **case.settings(), squares=whole)
        lars_ema(**exact, **case.settings(), squares=whole)
        compare(lists, exact)


def check_follow(device: str = "cpu") -> None:
    for case in (CASES["dense"], CASES["not aligned"], CASES["bf16 gradients"]):
        lists = case.inputs(device)
        exact = twin(lists)
        with force("triton"):
            follow(lists["velocities"], lists["gradients"], 0.7)
        follow(exact["velocities"], exact["gradients"], 0.7)
        compare(lists, exact)


def check_found_inf(device: str = "cpu") -> None:
    """A step that is not finite changes nothing, whatever is in the gradients; one that is, is as without the guard."""
    for case in (CASES["dense"], CASES["not aligned"]):
        outcomes = []
        for flag in (1.0, 0.0, None):
            lists = case.inputs(device)
            if flag:
                lists["gradients"][0].fill_(torch.nan)
                lists["gradients"][6].fill_(torch.inf)
            found_inf = None if flag is None else torch.tensor(flag, device=device)
            with force("triton"):
                lars_ema(**lists, **case.settings(), target_momentum=0.8, found_inf=found_inf)
                follow(lists["targets"], lists["gradients"][: case.targets], 0.7, found_inf)
            outcomes.append(lists)
        for name in ("parameters", "velocities", "targets"):
            for held, start in zip(outcomes[0][name], case.inputs(device)[name], strict=True):
                assert torch.equal(held, start), name
            for guarded, plain in zip(outcomes[1][name], outcomes[2][name], strict=True):
                assert torch.equal(guarded, plain), name


def check_not_a_number(device: str = "cpu") -> None:
    """Without the guard, NaN reaches the same places as in the reference."""
    case = CASES["dense"]
    outcomes = []
    for path in ("triton", "reference"):
        lists = case.inputs(device)
        lists["gradients"][0][2, 3] = torch.nan
        lists["parameters"][8][5] = torch.nan
        with force(path):
            lars_ema(**lists, **case.settings(), target_momentum=0.8)
        outcomes.append(lists)
    for name in ("parameters", "velocities", "targets"):
        for ours, right in zip(outcomes[0][name], outcomes[1][name], strict=True):
            assert torch.equal(ours.isnan(), right.isnan()), name


OTHERS = ("squares", "follow", "found_inf", "NaN", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
