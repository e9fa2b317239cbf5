"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.decoder_attention import decoder_attention, launch
from fra_dist.kernels.decoder_attention import op as operators
from tests.kernels.decoder_attention.checks import (
    CASES,
    Case,
    check,
    check_autocast,
    check_layer,
    check_not_a_number,
    layer,
)
from tests.kernels.decoder_attention.mutants import MUTANTS
from tests.kernels.interpreting import main


def check_several_blocks() -> None:
    """More rows and pixels than a program takes at once."""
    before = launch.TILES
    launch.TILES = dict.fromkeys(before, (16, 16, 4))
    try:
        check(Case(2, 35, 41, 40, dropout=0.2))
        check(Case(2, 40, 41, 40, dropout=0.2, heads=4))
    finally:
        launch.TILES = before


def check_operators() -> None:
    asked, memory, code, weight, bias = layer(2, 5, 7, 20)
    weight, bias = weight[20:].contiguous(), bias[20:].contiguous()
    for keep in (None, torch.rand(2, 4, 5, 7) > 0.3):
        given = [x.requires_grad_() for x in (asked.clone(), memory.clone())], [x.clone() for x in (weight, bias)]
        inputs = *given[0], code, *(x.requires_grad_() for x in given[1]), keep, 4, 1.4
        torch.library.opcheck(operators.forward_operator.custom, inputs)
        plain = asked, memory, code, weight, bias, keep
        out, *saved = operators.forward_operator(*plain, 4, 1.4)
        torch.library.opcheck(operators.backward_operator.custom, (torch.ones_like(out), *plain, *saved, 4, 1.4))


def check_compiled() -> None:
    tensors = layer(2, 5, 19, 40)
    inputs = [x.requires_grad_() for i, x in enumerate(tensors) if i != 2]

    def loss(queries: torch.Tensor, memory: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return decoder_attention(queries * 1, memory * 1, tensors[2], *weights, 4).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert dispatch.launches - before == {"decoder_attention": 1, "decoder_attention_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_dropout() -> None:
    """The same mask from the same seed, and the same result on both paths."""
    outcomes = []
    for path in ("triton", "reference"):
        torch.manual_seed(3)
        with dispatch.force(path):
            outcomes.append(decoder_attention(*layer(2, 5, 19, 40), 4, dropout=0.4))
    torch.testing.assert_close(*outcomes)


def check_refusals() -> None:
    for tensors in ([x.double() for x in layer(2, 5, 9, 40)], layer(2, 11, 9, 40), layer(1, 2, 3, 260)):
        before = dispatch.launches.copy()
        decoder_attention(*tensors, 4)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                decoder_attention(*tensors, 4)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {
        "several blocks": check_several_blocks,
        "layer": check_layer,
        "autocast": check_autocast,
        "NaN": check_not_a_number,
    }
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    main(cases | more, others | {"same mask": check_dropout}, launch, MUTANTS)
