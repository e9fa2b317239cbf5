"""Convolutions on a CPU, each of whose three passes is PyTorch's or a matrix product, whichever is faster there.

    forward   y[., o]         = Σ over i, j of input[s y + i − p, s x + j − p, :] · W[o, :, i, j]
    input     dx              = the same convolution of dy with W turned round (stride 1), or dy · W (1×1 kernels)
    weight    dW[o, i, j, :]  = Σ over images and places of dy[y, x, o] · input[s y + i − p, s x + j − p, :]

As products these take the rows of the input's patches, (images · places, values of a patch), times the weights, and dyᵀ
times these rows. Which way is faster depends on the processor (AVX2, AVX-512, AMX), the shape and the number format by
factors up to 3 in both directions: `train/convolution_choice.py` measures it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_PATCHES = 2**19
"""Numbers of patches at a time: they should stay in a core's cache between copy and product."""
_CHANNELS = 64
"""Below this many on either side PyTorch's own way is faster."""

_backward = torch.ops.aten.convolution_backward


class Ways(NamedTuple):
    """Which passes of a convolution are matrix products; the others are PyTorch's."""

    forward: bool = False
    """The output."""
    input: bool = False
    """The gradient of the input."""
    weight: bool = False
    """The gradient of the weight."""


class Layer(NamedTuple):
    """What the time of a convolution depends on, apart from the number of images."""

    inputs: int
    """Channels of the input."""
    outputs: int
    """Channels of the output."""
    height: int
    """Rows of the input."""
    width: int
    """Columns of the input."""
    kernel: tuple[int, int]
    """Rows and columns of the kernel."""
    stride: tuple[int, int]
    """Steps of the kernel, down and to the right."""
    padding: tuple[int, int]
    """Zeros above and below, and to the left and right."""
    dtype: torch.dtype
    """The number format that it is computed in."""

    @property
    def name(self) -> str:
        """The layer in one word, for example `64x28x28-128_k3x3_s2x2_p1x1_float32`."""
        maps = f"{self.inputs}x{self.height}x{self.width}-{self.outputs}"
        pairs = (f"{letter}{a}x{b}" for letter, (a, b) in zip("ksp", self[4:7], strict=True))
        return "_".join((maps, *pairs, str(self.dtype).removeprefix("torch.")))

    @property
    def can_turn(self) -> bool:
        """Whether the gradient of the input has a way as one product."""
        pointwise = self.kernel == (1, 1) and self.padding == (0, 0)
        inside = all(p < k for p, k in zip(self.padding, self.kernel, strict=True))
        return pointwise or (self.stride == (1, 1) and inside)


FORMER = Ways(weight=True)
"""What every convolution in fp32 did before there was a choice, and those do for which none was made."""


class PatchConv2d(nn.Conv2d):
    """`nn.Conv2d` with the chosen ways where they apply: fp32 or bf16, channels-last, on a CPU, not compiled."""

    chosen: Mapping[str, Ways] | None = None
    """By the name of a layer; PyTorch's way for those that are not in it. None: `FORMER` in fp32."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the input (N, I, H, W), as `nn.Conv2d` gives it."""
        dtype = _dtype(self, input)
        if dtype is None or not any(ways := self._ways(input, dtype)):
            return super().forward(input)
        x = input.to(dtype)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            return _Convolution.apply(x, self.weight, self.stride, self.padding, ways)
        if ways.forward and not (torch.is_grad_enabled() and input.requires_grad):
            layer = self.layer(input.shape[2], input.shape[3], dtype)
            return output(x, self.weight.to(dtype), layer.stride, layer.padding)
        return super().forward(input)

    def layer(self, height: int, width: int, dtype: torch.dtype) -> Layer:
        """Describe this convolution for maps of a size."""
        assert not isinstance(self.padding, str)
        kernel, stride, padding = ((pair[0], pair[1]) for pair in (self.kernel_size, self.stride, self.padding))
        return Layer(self.in_channels, self.out_channels, height, width, kernel, stride, padding, dtype)

    def _ways(self, x: Tensor, dtype: torch.dtype) -> Ways:
        if self.chosen is None:
            return FORMER if dtype == torch.float32 else Ways()
        return self.chosen.get(self.layer(x.shape[2], x.shape[3], dtype).name, Ways())


def use_patches(module: nn.Module, chosen: Mapping[str, Ways] | None = None) -> None:
    """Turn every plain `nn.Conv2d` inside the module that `PatchConv2d` can serve into one, in place;
    parameters stay.

    chosen: the ways by names of layers; None: the former rule, weight gradients in fp32.
    """
    for part in module.modules():
        # the class of the object changes, so that parameters, hooks and state names stay; exact type: subclasses differ
        if type(part) is nn.Conv2d and _serves(part):
            part.__class__ = PatchConv2d
        if isinstance(part, PatchConv2d):
            part.chosen = chosen


def layers_of(module: nn.Module, sizes: Iterable[int], dtype: torch.dtype) -> list[Layer]:
    """List the different layers of the `PatchConv2d`s in a module that takes square images of `sizes` pixels."""
    found: dict[Layer, None] = {}
    parts = [part for part in module.modules() if isinstance(part, PatchConv2d)]
    if not parts:
        return []

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(part, PatchConv2d)
        found.setdefault(part.layer(inputs[0].shape[2], inputs[0].shape[3], dtype))

    like = parts[0].weight
    training = {part: part.training for part in module.modules()}
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        module.eval()  # statistics and dropout stay as they are
        with torch.no_grad():
            for size in sizes:
                module(torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
        for part, was in training.items():
            part.training = was
    return list(found)


def _serves(convolution: nn.Conv2d) -> bool:
    plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.bias is None
    padded = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return plain and padded and min(convolution.in_channels, convolution.out_channels) >= _CHANNELS


def _dtype(convolution: nn.Conv2d, x: Tensor) -> torch.dtype | None:
    """The number format that a convolution is computed in, where the ways of this module apply to it."""
    applies = (
        convolution.weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.compiler.is_compiling()
    )
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    known = dtype in (torch.float32, torch.bfloat16) and x.dtype in (torch.float32, torch.bfloat16)
    same = torch.is_autocast_enabled("cpu") or x.dtype == convolution.weight.dtype
    return dtype if applies and known and same else None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], ways: Ways
    ) -> Tensor:
        own = weight.to(x.dtype)
        ctx.save_for_backward(x, own)
        ctx.stride, ctx.padding, ctx.ways, ctx.dtype = stride, padding, ways, weight.dtype
        return output(x, own, stride, padding) if ways.forward else torch.conv2d(x, own, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        given: list[Tensor | None] = [None, None]
        wanted = [bool(one) for one in ctx.needs_input_grad[:2]]
        theirs = [one and not product for one, product in zip(wanted, ctx.ways[1:], strict=True)]
        if any(theirs):
            given = list(pytorch_gradients(x, dy, weight, ctx.stride, ctx.padding, *theirs))
        if wanted[0] and not theirs[0]:
            given[0] = input_gradient(x, dy, weight, ctx.stride, ctx.padding)
        if wanted[1] and not theirs[1]:
            given[1] = weight_gradient(x, dy, weight.shape[2:], ctx.stride, ctx.padding)
        dx, dw = given
        return dx, None if dw is None else dw.to(ctx.dtype), None, None, None


def pytorch_gradients(
    x: Tensor,
    dy: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    of_input: bool,
    of_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """PyTorch's gradients of the input and of the weight, those that are asked for; dy: that of the output."""
    wanted = [of_input, of_weight, False]
    return _backward(dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, wanted)[:2]


def output(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The output (N, O, h, w), channels-last, of the input (N, I, H, W) as a product of patches and weights, without
    gradient.
    """
    kernel = (weight.shape[2], weight.shape[3])
    matrix = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)  # (O, values of a patch)
    places = x.permute(0, 2, 3, 1)
    if tuple(kernel) == (1, 1) and tuple(padding) == (0, 0):
        rows = places[:, :: stride[0], :: stride[1]]
        return (rows.reshape(-1, x.shape[1]) @ matrix.t()).view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
    sides = zip(x.shape[2:], padding, kernel, stride, strict=True)
    size = torch.Size((side + 2 * p - k) // s + 1 for side, p, k, s in sides)
    y = x.new_empty(x.shape[0], size[0] * size[1], weight.shape[0])
    first = 0
    for patches in _patches(places, size, kernel, stride, padding):
        torch.mm(patches.flatten(0, 1), matrix.t(), out=y[first : first + len(patches)].flatten(0, 1))
        first += len(patches)
    return y.view(-1, *size, weight.shape[0]).permute(0, 3, 1, 2)


def input_gradient(x: Tensor, dy: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The gradient of the input (N, I, H, W) as a product, for layers that `can_turn`; dy: that of the output."""
    kernel = weight.shape[2:]
    if tuple(kernel) == (1, 1) and tuple(padding) == (0, 0):
        given = dy.permute(0, 2, 3, 1)
        found = (given.reshape(-1, dy.shape[1]) @ weight.flatten(1)).view(*given.shape[:3], -1)
        if tuple(stride) == (1, 1):
            return found.permute(0, 3, 1, 2)
        dx = torch.zeros_like(x)
        dx.permute(0, 2, 3, 1)[:, :: stride[0], :: stride[1]] = found
        return dx
    turned = weight.flip(2, 3).transpose(0, 1)
    laid_out = dy.contiguous(memory_format=torch.channels_last)
    return output(laid_out, turned, (1, 1), (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]))


def weight_gradient(
    x: Tensor, dy: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The gradient of the weight, (O, I, *kernel) stored channels-last, from the input (N, I, H, W) and dy (N, O, h,
    w).

    dy: the gradient of the convolution's output. In bf16 the parts of a sum are added in fp32, which the result is in.
    """
    given = dy.permute(0, 2, 3, 1).reshape(dy.shape[0], -1, dy.shape[1])  # (N, h w, O)
    places = x.permute(0, 2, 3, 1)
    if tuple(kernel) == (1, 1) and tuple(padding) == (0, 0):
        rows = places[:, :: stride[0], :: stride[1]].reshape(-1, x.shape[1])
        return (given.flatten(0, 1).t() @ rows)[:, None, None].permute(0, 3, 1, 2)
    exact = torch.promote_types(x.dtype, torch.float32)
    out = x.new_zeros(dy.shape[1], kernel[0] * kernel[1] * x.shape[1], dtype=exact)
    first = 0
    for patches in _patches(places, dy.shape[2:], kernel, stride, padding):
        some = given[first : first + len(patches)].flatten(0, 1).t()
        if x.dtype == exact:
            out.addmm_(some, patches.flatten(0, 1))
        else:
            out += some @ patches.flatten(0, 1)
        first += len(patches)
    return out.view(-1, *kernel, x.shape[1]).permute(0, 3, 1, 2)


def _patches(
    places: Tensor, size: torch.Size, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Iterator[Tensor]:
    """(N, H, W, I) -> for some images after the other (n, h w, values of a patch), always in the same memory."""
    images, height, width, channels = places.shape
    values = kernel[0] * kernel[1] * channels
    count = max(1, min(images, _PATCHES // (size[0] * size[1] * values)))
    padded = places.new_zeros(count, height + 2 * padding[0], width + 2 * padding[1], channels)
    inner = padded[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    image, row, column, _ = padded.stride()
    steps = image, stride[0] * row, stride[1] * column, row, 1
    windows = padded.as_strided((count, *size, kernel[0], kernel[1] * channels), steps)
    found = places.new_empty(count, size[0] * size[1], values)
    for first in range(0, images, count):
        some = places[first : first + count]
        inner[: len(some)].copy_(some)
        found[: len(some)].view(len(some), *windows.shape[1:]).copy_(windows[: len(some)])
        yield found[: len(some)]
