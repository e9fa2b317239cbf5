"""Mistakes that the null GPU must show, put into steps on purpose. Run by `test_null_gpu.py`.

Prints, for each, what the steps asked for, or the error that they ended with.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parents[2]))
import fra_dist.train.step
from fra_dist.train.step import Step
from tests.nullgpu.step_scenes import SCENES, TORCH, measure, one_rank, prepare

Spoil = Callable[[Step], None]


@triton.jit
def touch_kernel(x, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    tl.store(x + tl.arange(0, BLOCK), 1.0)


def in_the_loss(extra: Callable[[torch.Tensor], Any]) -> Spoil:
    """What a careless line between forward and backward does."""

    def spoil(step: Step) -> None:
        proper = fra_dist.train.step.fra_loss

        def careless(*arguments: Any) -> Any:
            terms = proper(*arguments)
            extra(terms["total"])
            return terms

        fra_dist.train.step.fra_loss = careless

    return spoil


def launch(grid: tuple[int, ...], warps: int = 4) -> Callable[[torch.Tensor], None]:
    def run(x: torch.Tensor) -> None:
        touch_kernel[grid](torch.empty(64, device=x.device), BLOCK=64, num_warps=warps)

    return run


def buffer_on_the_host(step: Step) -> None:
    norm = next(m for m in step.model.online.modules() if getattr(m, "running_mean", None) is not None)
    norm.running_mean = norm.running_mean.cpu()


def parameter_on_the_host(step: Step) -> None:
    predictor = step.model.predictor.linear2
    predictor.weight.data = predictor.weight.data.cpu()


KEPT: list[torch.Tensor] = []
MISTAKES: dict[str, tuple[str, Spoil]] = {
    "none": ("eager", lambda step: None),
    "item": ("eager", in_the_loss(lambda loss: loss.item())),
    "synchronize": ("eager", in_the_loss(lambda loss: torch.cuda.synchronize())),
    "event": ("eager", in_the_loss(lambda loss: torch.cuda.current_stream().record_event().synchronize())),
    "pageable": ("eager", in_the_loss(lambda loss: torch.zeros(3).to(loss.device, non_blocking=True))),
    "leak": ("eager", in_the_loss(lambda loss: KEPT.append(torch.empty(2**25, device=loss.device)))),
    "buffer": ("eager", buffer_on_the_host),
    "parameter": ("eager", parameter_on_the_host),
    "grid": ("eager", in_the_loss(launch((1, 70_000)))),
    "block": ("eager", in_the_loss(launch((1,), warps=64))),
    "item in a capture": ("graphs, insisted", in_the_loss(lambda loss: loss.item())),
    "synchronize in a capture": ("graphs, insisted", in_the_loss(lambda loss: torch.cuda.synchronize())),
}


def main() -> None:
    torch.set_num_threads(1)
    proper = fra_dist.train.step.fra_loss
    found = {}
    for name, (scene, spoil) in MISTAKES.items():
        fra_dist.train.step.fra_loss = proper
        found[name] = attempt(scene, spoil)
    print(json.dumps(found))


def attempt(scene: str, spoil: Spoil) -> dict[str, Any]:
    words = [TORCH, "train.cuda_graphs=true"] if scene == "graphs, insisted" else SCENES["torch"][scene]
    run, step = prepare(words, one_rank())
    spoil(step)
    try:
        return measure(run)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
