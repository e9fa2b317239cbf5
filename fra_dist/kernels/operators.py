"""Functions that launch kernels as PyTorch operators, so that torch.compile takes them without a graph break.

Dispatching an operator that is written in Python costs the host more than the launches inside it, so outside of
torch.compile the function itself is called, with its gradient in a `torch.autograd.Function`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

Body = Callable[..., Any]


class Operator:
    """The operator `fra_dist::NAME` of a function, called as the function is."""

    def __init__(self, name: str, body: Body, mutated: tuple[str, ...] = ()) -> None:
        self.custom = torch.library.custom_op(f"fra_dist::{name}", body, mutates_args=mutated)
        """The operator for PyTorch's own tools."""
        self.directly = body

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for these arguments."""
        # tracers and fake tensors are modes of dispatch
        traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0
        return self.custom(*arguments) if traced else self.directly(*arguments)

    def register_fake(self, fake: Body) -> Body:
        """Set what makes the results' shapes alone; for use as a decorator."""
        return self.custom.register_fake(fake)  # type: ignore[no-any-return]

    def register_autograd(self, differentiate: Body, save: Body) -> None:
        """Set the gradient: differentiate(ctx, *grads) after save(ctx, inputs, output), as for `torch.library`."""
        self.custom.register_autograd(differentiate, setup_context=save)
        body = self.directly

        class Direct(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = body(*inputs)
                save(ctx, inputs, output)
                return output

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return differentiate(ctx, *grads)

        self.directly = lambda *inputs: Direct.apply(*inputs) if torch.is_grad_enabled() else body(*inputs)


def operator(name: str, mutated: tuple[str, ...] = ()) -> Callable[[Body], Operator]:
    """Make an `Operator` of a function that changes the arguments of those names in place."""
    return lambda body: Operator(name, body, mutated)


def device_of(x: Tensor) -> AbstractContextManager[Any]:
    """The device that x is on, made the current one if it is not."""
    return nullcontext() if not x.is_cuda or x.get_device() == torch.cuda.current_device() else torch.cuda.device_of(x)
