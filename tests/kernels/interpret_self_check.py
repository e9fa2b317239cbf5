"""Prints, as JSON, the self-check of good kernels and of one that is wrong, in Triton's interpreter."""

import json

import torch

from fra_dist import kernels
from fra_dist.kernels import dispatch
from fra_dist.kernels.region_attention import op, region_attention
from fra_dist.kernels.self_check import check_kernels

torch.set_num_threads(1)
CPU = torch.device("cpu")


def problems() -> dict[str, str | None]:
    return {f"{f.kernel} {f.dtype}": f.problem for f in check_kernels(CPU)}


def attend() -> str:
    region_attention(torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2), torch.randn(2, 4), 1.0)
    return kernels.describe()["region_attention"].path


found: dict[str, object] = {"good": problems(), "recorded": {k: c.called for k, c in kernels.describe().items()}}
found["path"] = attend()
real = op.fused
op.fused = lambda *words: tuple(1.1 * out for out in real(*words))
found["wrong"] = problems()
found["path of a wrong one"] = attend()
with dispatch.force("triton"):
    found["path when insisted on"] = attend()


def refuse(*words: object) -> None:
    raise RuntimeError("no such instruction\nand more lines")


op.fused = refuse
found["refused"] = problems()
print(json.dumps(found))
