"""Training steps on fake tensors, which have a device and a dtype but no values. Run by `test_fake_step.py`.

Prints, for each mistake, the problems of a step: reads of the host, large float64 tensors, operations that fail since
devices or dtypes do not match. The kernels' plain paths run. On the null GPU, so that there is a device to be named.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).parents[2]))
import fra_dist.train.step
from fra_dist.kernels import force
from fra_dist.train.step import Step
from tests.nullgpu.mistakes import buffer_on_the_host, in_the_loss, parameter_on_the_host
from tests.nullgpu.step_scenes import SCENES, one_rank, prepare

LARGE = 65_536
"""Elements: a GPU takes sixty times as long for float64, and twice the memory."""


class Watch(TorchDispatchMode):
    """Notes operations that read from the device, and those that make large float64 tensors there."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        for made in (x for x in tree_leaves(out) if isinstance(x, torch.Tensor)):
            if made.is_cuda and made.dtype == torch.float64 and made.numel() > LARGE:
                self.problems.append(f"{function}: float64 {tuple(made.shape)}")
            if made.device.type == "cpu" and any(x.is_cuda for x in given):
                self.problems.append(f"{function}: reads {tuple(made.shape)} from the device")
        return out


def large_double(loss: torch.Tensor) -> torch.Tensor:
    return torch.zeros(300, 300, device=loss.device).double() * loss


MISTAKES: dict[str, tuple[str, Callable[[Step], None]]] = {
    "none": ("eager", lambda step: None),
    "none, crops": ("fp32, crops", lambda step: None),
    "none, accumulated": ("accumulated", lambda step: None),
    "item": ("eager", in_the_loss(lambda loss: loss.item())),
    "copy to the host": ("eager", in_the_loss(lambda loss: loss.cpu())),
    "float64": ("eager", in_the_loss(large_double)),
    "buffer": ("eager", buffer_on_the_host),
    "parameter": ("eager", parameter_on_the_host),
}


def main() -> None:
    torch.set_num_threads(1)
    proper = fra_dist.train.step.fra_loss
    found = {}
    for name, (scene, spoil) in MISTAKES.items():
        fra_dist.train.step.fra_loss = proper
        found[name] = problems(scene, spoil)
    print(json.dumps(found))


def problems(scene: str, spoil: Callable[[Step], None]) -> list[str]:
    run, step = prepare(SCENES["torch"][scene], one_rank())
    spoil(step)
    with force("reference"), FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        try:
            run(0)
        except Exception as error:
            watch.problems.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return watch.problems


if __name__ == "__main__":
    main()
