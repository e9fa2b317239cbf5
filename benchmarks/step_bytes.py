"""A model on paper of a training step on one GPU: what it reads and writes and computes, and the time that implies.

    python benchmarks/step_bytes.py                                # ResNet-50, 224 px, 256 images, one H100
    python benchmarks/step_bytes.py --images 64 --backbone resnet18 --size 112

Nothing runs: shapes are those of the model on PyTorch's meta device, bytes and FLOP follow from them. Maps are bf16.
Every map is read or written as often as the kernels' docstrings say, once for each kernel; caches help nobody.

    plain      convolution, batch norm, residual and ReLU as operators of PyTorch: each reads and writes whole maps
    c5c9a06    batch norm, residual and ReLU in one kernel; its backward pass reads dy, x and y twice
    this       y is read only where a residual was added before ReLU: elsewhere its sign is known from x. There the pass
               that reads it writes the residual's gradient, from which the next one goes on, and adds up the gradients
               of an output that goes on through the next block and around it. The stem's norm writes the pooled map
               alone, and a byte for where each maximum lies; its backward pass makes the gradient before the pooling
               twice rather than write it. A map between a norm and the next convolution of a block is not kept but
               written a second time, by the backward pass
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import load_config
from fra_dist.models.fra import FRA
from fra_dist.models.norm import BatchNorm, PooledBatchNorm
from fra_dist.models.resnet import FusedBasicBlock, FusedBottleneck

sys.path.append(str(Path(__file__).resolve().parent))

WAYS = ("plain", "c5c9a06", "this")
MEMORY, SHARE_OF_MEMORY = 3.35e12, 0.85
"""Bytes a second of an H100 SXM by its data sheet, and the share of it that the goals ask of the kernels."""
TENSOR_CORES, SHARE_OF_TENSOR_CORES = 989e12, 0.32
"""bf16 FLOP a second by the data sheet, and the share that cuDNN's convolutions of a ResNet-50 are assumed to reach."""
GOAL = 2627
"""Images a second."""


@dataclass
class Step:
    """Sums over the step, by part: bytes of each way, and FLOP."""

    bytes: dict[str, Counter[str]] = field(default_factory=lambda: {way: Counter() for way in WAYS})
    flop: Counter[str] = field(default_factory=Counter)

    def add(self, part: str, *each: float) -> None:
        """Bytes of each way, or one number for all of them."""
        for way, number in zip(WAYS, each * len(WAYS) if len(each) == 1 else each, strict=True):
            self.bytes[way][part] += int(number)


def main() -> int:
    args = _arguments()
    step = count(args.backbone, args.size, args.images)
    report(step, args)
    return 0


def count(backbone: str, size: int, images: int) -> Step:
    """The step of the published model with another backbone, for two views of so many images."""
    config = load_config(None, [f"model.backbone={backbone}", f"data.image_size={size}"])
    with torch.device("meta"):
        model = FRA(config.model)
    step = Step()
    for network, trained in ((model.online, True), (model.target, False)):
        _watch(network.backbone, step, trained)
        view = torch.empty(images, 3, size, size, device="meta")
        for _ in range(2):
            network.backbone(view)
    _heads(model, step, images)
    _weights(model, step)
    return step


def _watch(backbone: nn.Module, step: Step, trained: bool) -> None:
    """Let every layer of the backbone add what it does when it is called."""
    blocks = [part for part in backbone.modules() if isinstance(part, FusedBasicBlock | FusedBottleneck)]
    for block in blocks if trained else []:
        block.register_forward_hook(_two_ways(step, from_block=block is not blocks[0]))
    first = True
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(_convolution(step, trained, into_images=first))
            first = False
        elif isinstance(module, PooledBatchNorm):
            module.register_forward_hook(_pooled_norm(step, trained))
        elif isinstance(module, BatchNorm):
            module.register_forward_hook(_norm(step, trained), with_kwargs=True)


def _convolution(step: Step, trained: bool, into_images: bool) -> Callable[..., None]:
    def hook(module: nn.Conv2d, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        passes = 1 + trained * (1 if into_images else 2)  # the images need no gradient
        maps = _size(inputs[0]) + _size(out)
        step.add("convolutions", passes * (maps + _size(module.weight)))
        step.flop["convolutions"] += passes * 2 * out.numel() * module.weight[0].numel()

    return hook


def _norm(step: Step, trained: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], out: Tensor) -> None:
        given = dict(zip(("input", "residual", "relu"), inputs, strict=False)) | named
        passes = _passes(given.get("residual") is not None, bool(given.get("relu")), trained)
        step.add("batch norm, residual and ReLU", *(number * _size(out) for number in passes))

    return hook


def _passes(residual: bool, relu: bool, trained: bool) -> tuple[int, int, int]:
    """How often each way reads or writes a norm's map."""
    plain = 3 + 3 * residual + 2 * relu
    fused = 1 + 2 + residual
    if not trained:
        return plain, fused, fused
    again = relu and not residual  # y, for the weight of the convolution behind it
    return plain + 5 + 3 * relu, fused + 5 + 2 * relu + residual, fused + 5 + 2 * (relu and residual) + again


def _two_ways(step: Step, from_block: bool) -> Callable[..., None]:
    """The gradient of a block's input is a sum of two."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        size = _size(inputs[0])
        step.add("batch norm, residual and ReLU", 0, 0, size * from_block)
        step.add("sums of gradients", 3 * size, 3 * size, 0 if from_block else 3 * size)

    return hook


def _pooled_norm(step: Step, trained: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        whole, pooled = _size(inputs[0]), _size(out)
        apart = _passes(residual=False, relu=True, trained=trained)[:2]
        noted = pooled // 2  # a byte for two
        together = 2 * whole + pooled + noted + trained * (3 * whole + 2 * (pooled + noted))
        step.add("batch norm, residual and ReLU", *(number * whole for number in apart), together)
        pooling = (1 + trained) * (whole + pooled + 4 * pooled)  # int64 says where
        step.add("pooling", pooling, pooling, 0)

    return hook


def _heads(model: FRA, step: Step, images: int) -> None:
    """Linear layers of heads and decoder, whose weights outweigh their rows: forward, and both gradients if trained."""
    regions = model.online.decoder.queries.shape[0] if model.online.decoder is not None else 0
    for part, module in model.named_modules():
        if isinstance(module, nn.Linear) and "backbone" not in part:
            rows = 2 * images * (max(regions, 1) if "local" in part or "decoder" in part else 1)
            passes = 1 if part.startswith("target") else 3
            numbers = rows * (module.in_features + module.out_features) + module.weight.numel()
            step.add("heads and decoder", 2 * passes * numbers)
            step.flop["heads and decoder"] += 2 * passes * rows * module.weight.numel()


def _weights(model: FRA, step: Step) -> None:
    """Casts to bf16 and of the gradients back; LARS and EMA: norms of weights and gradients, then everything once."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    followed = sum(p.numel() for p in model.target.parameters())
    step.add("casts of weights and gradients", 6 * (trained + followed) + 6 * trained)
    step.add("LARS and EMA", 8 * trained + 20 * trained + 8 * followed)


def _size(tensor: Tensor) -> int:
    """Bytes in bf16."""
    return 2 * tensor.numel()


def report(step: Step, args: argparse.Namespace) -> None:
    """Print the table, and what the goal asks for."""
    print(
        f"{args.backbone}, {args.size} px, {args.images} images, two views, one GPU; on paper, nothing was measured\n"
    )
    print(f"| part | {' | '.join(f'GB, {way}' for way in WAYS)} | TFLOP | ms on an H100, this |")
    print("|---|---|---|---|---|---|")
    total = 0.0
    for part in step.bytes["this"]:
        numbers = [step.bytes[way][part] / 1e9 for way in WAYS]
        milliseconds = _milliseconds(step, "this", part)
        total += milliseconds
        flop = f"{step.flop[part] / 1e12:.2f}" if step.flop[part] else ""
        print(f"| {part} | {' | '.join(f'{number:.1f}' for number in numbers)} | {flop} | {milliseconds:.1f} |")
    sums = [sum(step.bytes[way].values()) / 1e9 for way in WAYS]
    flop = sum(step.flop.values()) / 1e12
    print(f"| all | {' | '.join(f'{number:.1f}' for number in sums)} | {flop:.2f} | {total:.1f} |\n")
    print(f"bytes: {sums[2] / sums[1]:.2f} x c5c9a06, {sums[2] / sums[0]:.2f} x plain")
    print(
        f"at {SHARE_OF_MEMORY:.0%} of {MEMORY / 1e12} TB/s, or {SHARE_OF_TENSOR_CORES:.0%} of {TENSOR_CORES / 1e12:.0f}"
    )
    print(f"TFLOP/s where that takes longer: {args.images / total * 1000:.0f} images/s")
    rest = total - _milliseconds(step, "this", "convolutions")
    left = args.images / GOAL * 1000 - rest
    if left <= 0:
        print(
            f"{GOAL} images/s: {rest:.0f} ms without convolutions are more than the {args.images / GOAL * 1000:.0f} ms"
        )
    else:
        need = step.flop["convolutions"] / left / 1e9
        print(
            f"{GOAL} images/s: convolutions would have to run at {need:.0f} TFLOP/s, {need * 1e12 / TENSOR_CORES:.0%}"
        )


def _milliseconds(step: Step, way: str, part: str) -> float:
    by_memory = step.bytes[way][part] / (MEMORY * SHARE_OF_MEMORY)
    return 1000 * max(by_memory, step.flop[part] / (TENSOR_CORES * SHARE_OF_TENSOR_CORES))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=256)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
