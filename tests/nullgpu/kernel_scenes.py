"""The launch code of every Triton kernel on the null GPU, with inputs of tests/gpu.

Run by `test_kernels_on_null_gpu.py`. Prints, for each kernel, what was asked of the GPU in a second pass over the
cases, and what went wrong by case.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.distributed import SINGLE
from fra_dist.kernels import force
from fra_dist.kernels.batch_norm import follow
from fra_dist.kernels.lars_ema import follow as follow_targets
from fra_dist.kernels.lars_ema import lars_ema, squares
from fra_dist.kernels.region_attention import region_attention
from fra_dist.kernels.relation import balanced_assignment
from fra_dist.kernels.residual_norm import residual_norm as residual_norm_kernel
from fra_dist.kernels.self_attention import self_attention as self_attention_kernel
from fra_dist.kernels.view_pixels import view_pixels as view_pixels_kernel
from tests.gpu import (
    test_batch_norm,
    test_decoder_attention,
    test_dropout_mask,
    test_lars_ema,
    test_pooled_norm,
    test_region_attention,
    test_relation_kernel,
    test_residual_norm,
    test_self_attention,
    test_view_pixels,
)
from tests.kernels.batch_norm import checks as batch_norm_checks
from tests.kernels.decoder_attention import checks as decoder_attention_checks
from tests.kernels.dropout_mask import checks as dropout_mask_checks
from tests.kernels.lars_ema import checks as lars_ema_checks
from tests.kernels.pooled_norm import checks as pooled_norm_checks
from tests.kernels.region_attention import checks as region_attention_checks
from tests.kernels.relation import checks as relation_checks
from tests.kernels.residual_norm import checks as residual_norm_checks
from tests.kernels.self_attention import checks as self_attention_checks
from tests.kernels.view_pixels import checks as view_pixels_checks
from tests.nullgpu.null_gpu import Counters

Run = Callable[[], Any]
DEVICE = "cuda"


def _differentiated(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> None:
    torch.autograd.grad(outputs, inputs, [torch.ones_like(out) for out in outputs])


def batch_norm(case: batch_norm_checks.Case) -> Run:
    inputs = case.inputs(DEVICE)
    given = torch.ones_like(inputs[0])
    channels = case.channels
    running = torch.zeros(channels, device=DEVICE), torch.ones(channels, device=DEVICE)
    tracked = torch.zeros((), dtype=torch.int64, device=DEVICE)

    def run() -> None:
        _, mean, var, *_ = batch_norm_checks.results(case, [x.detach().clone() for x in inputs], given)
        follow(*running, tracked, mean, var, 10, 0.1)

    return run


def decoder_attention(case: decoder_attention_checks.Case) -> Run:
    inputs = case.inputs(DEVICE)
    return lambda: decoder_attention_checks.run(case, inputs)


def dropout_mask(case: dropout_mask_checks.Case) -> Run:
    keys = case.keys(DEVICE)
    return lambda: case.run(keys)


def lars(case: lars_ema_checks.Case) -> Run:
    lists = case.inputs(DEVICE)
    found_inf = torch.zeros((), device=DEVICE)

    def run() -> None:
        lars_ema(**lists, **case.settings(), target_momentum=0.9, found_inf=found_inf)
        squares(lists["parameters"], lists["gradients"])
        targets = lists["targets"]
        follow_targets(targets, lists["parameters"][: len(targets)], 0.9, found_inf)

    return run


def pooled_norm(case: pooled_norm_checks.Case) -> Run:
    inputs, given = case.inputs(DEVICE), case.given(DEVICE)
    return lambda: pooled_norm_checks.results(case, [x.detach().clone() for x in inputs], given)


def region(case: region_attention_checks.Case) -> Run:
    inputs = [x.requires_grad_() for x in case.inputs(DEVICE)]
    return lambda: _differentiated(region_attention(*inputs, case.temperature, case.epsilon), inputs)


def relation(case: relation_checks.Case) -> Run:
    student, teacher = case.inputs(DEVICE)

    def run() -> None:
        case.run(student, teacher)
        balanced_assignment(teacher.flatten(3), case.teacher_temperature, 3, SINGLE)

    return run


def residual_norm(case: residual_norm_checks.Case) -> Run:
    inputs, numbers = [x.requires_grad_() for x in case.inputs(DEVICE)], case.numbers(DEVICE)

    def run() -> None:
        out = residual_norm_kernel(*inputs[:4], queries=inputs[4], **numbers)
        assert out.asked is not None
        _differentiated((out.output, out.asked), inputs)

    return run


def self_attention(case: self_attention_checks.Case) -> Run:
    inputs, numbers = [x.requires_grad_() for x in case.inputs(DEVICE)], case.numbers(DEVICE)
    return lambda: _differentiated((self_attention_kernel(*inputs, case.heads, **numbers),), inputs)


def view_pixels(case: view_pixels_checks.Case) -> Run:
    images, numbers = torch.from_numpy(case.images()).to(DEVICE), torch.from_numpy(case.numbers()).to(DEVICE)
    return lambda: view_pixels_kernel(images, numbers, case.dtype, case.channels_last)


KERNELS: dict[str, tuple[Callable[[Any], Run], dict[str, Any]]] = {
    "batch_norm": (batch_norm, batch_norm_checks.CASES | test_batch_norm.LARGE),
    "decoder_attention": (decoder_attention, test_decoder_attention.SMALL | test_decoder_attention.LARGE),
    "dropout_mask": (dropout_mask, dropout_mask_checks.CASES | test_dropout_mask.LARGE),
    "lars_ema": (lars, lars_ema_checks.CASES | {"large": test_lars_ema.LARGE}),
    "pooled_norm": (pooled_norm, pooled_norm_checks.CASES | test_pooled_norm.LARGE),
    "region_attention": (region, region_attention_checks.CASES | test_region_attention.LARGE),
    "relation": (relation, relation_checks.CASES | test_relation_kernel.LARGE),
    "residual_norm": (residual_norm, residual_norm_checks.CASES | test_residual_norm.LARGE),
    "self_attention": (self_attention, self_attention_checks.CASES | test_self_attention.LARGE),
    "view_pixels": (view_pixels, view_pixels_checks.CASES | test_view_pixels.LARGE),
}
CHOSEN = {
    "batch_norm": ["small", "rows, plain", "56x56, 64 channels, torch.bfloat16", "7x7, 2048 channels, torch.bfloat16"],
    "decoder_attention": ["dropout", "odd heads", "64 rows, 784 pixels, width 256, torch.bfloat16"],
    "dropout_mask": ["two views", "attention", "hidden"],
    "lars_ema": ["dense", "not aligned", "large"],
    "pooled_norm": ["odd sides", "112x112, 64 channels, torch.bfloat16"],
    "region_attention": [
        "small",
        "28x28, 64 regions, channels_last, torch.bfloat16",
        "28x28, 8 regions, nchw, torch.float32",
    ],
    "relation": ["7x7", "28x28, 64 regions", "bf16"],
    "residual_norm": ["decoder", "odd width", "rounded alone", "64 queries, width 512, torch.bfloat16"],
    "self_attention": ["decoder", "64 queries, heads of 128, torch.bfloat16"],
    "view_pixels": ["odd", "224 px", "224 px, planes"],
}
"""Every kernel, small and large, and what it is recompiled for: each such case takes seconds."""


def main() -> None:
    torch.set_num_threads(1)
    torch.randn = _zeros  # nobody looks at numbers
    with force("triton"):
        print(json.dumps({name: try_out(*KERNELS[name], CHOSEN[name]) for name in KERNELS}))


def try_out(make: Callable[[Any], Run], cases: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    counters, wrong, total = Counters(), {}, dict.fromkeys(Counters().names, 0)
    for name in chosen:
        try:
            run = make(cases[name])
            run()  # compiles
            with counters.during() as asked:
                run()
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
            continue
        total = {key: count + asked[key] for key, count in total.items()}
        if asked["triton_kernels"] == 0:
            wrong[name] = "no Triton kernel was launched"
    return {"wrong": wrong, **total}


def _zeros(*shape: Any, generator: torch.Generator | None = None) -> Tensor:
    return torch.zeros(*shape)


if __name__ == "__main__":
    main()
