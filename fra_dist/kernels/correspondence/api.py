"""Correspondence: how far pixels of one view are from finding their place in the other.

    t(v|u) = softmax over v of −|v − T(u)|² / (2 s²)      p(v|u) = softmax over v of q(u)·k(v)/τ
    L(u)   = KL(t(·|u) ‖ p(·|u)) = Σ_v t(v|u) (log t(v|u) − q(u)·k(v)/τ) + log Σ_v exp(q(u)·k(v)/τ)

after Thewlis et al. (arXiv 1706.02932, 1908.06427). u and v are pixels of the two maps, T(u) is where u lies in the
other map, in cells; q and k are unit vectors. Crops and flips are axis-aligned, so T(u) is a row's place and a
column's, and t is a row factor times a column factor. With the gradient g(u) of L(u):

    dq(u) = g(u)/τ Σ_v (p(v|u) − t(v|u)) k(v)             dk(v) = 1/τ Σ_u g(u) (p(v|u) − t(v|u)) q(u)

B images, H×W map, D width. No table of pixels against pixels of all images is ever in memory.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.correspondence.reference import reference

KERNEL = dispatch.register("correspondence")
MOST_WIDTH = 4096
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def correspondence(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, *, spread: float, temperature: float
) -> Tensor:
    """The loss L(u) of each pixel, (B, H·W), in fp32, or in float64 if an input is float64.

    queries, keys: (B, H·W, D) unit vectors, one per pixel, row by row; any mix of fp32, bf16 and fp16, sums are in
    fp32. rows: (B, H), where each row of the queries' map lies in the keys' map, in cells from the centre of its first
    row; columns: (B, W) likewise. spread: s, in cells; temperature: τ. Differentiable once in queries and keys. Raises
    ValueError for shapes that do not fit together, and ConfigError if the Triton kernel is insisted on
    (`dispatch.force`) and cannot take the call.
    """
    _check_shapes(queries, keys, rows, columns)
    if dispatch.use_triton(KERNEL, _obstacle(queries, keys, rows, columns), on_gpu=queries.is_cuda):
        # Triton is imported only when a kernel is about to run.
        from fra_dist.kernels.correspondence.op import fused

        return fused(queries, keys, rows.float(), columns.float(), spread, temperature)
    return reference(queries, keys, rows, columns, spread=spread, temperature=temperature)


def _check_shapes(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> None:
    fit = queries.dim() == 3 and queries.shape == keys.shape and rows.dim() == columns.dim() == 2
    if fit:
        fit = len(rows) == len(columns) == len(queries) and rows.shape[1] * columns.shape[1] == queries.shape[1]
    if not fit:
        raise ValueError(
            "correspondence takes queries and keys (B, H·W, D), rows (B, H) and columns (B, W), not "
            f"{tuple(queries.shape)}, {tuple(keys.shape)}, {tuple(rows.shape)} and {tuple(columns.shape)}"
        )


def _obstacle(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> str | None:
    """Why the Triton kernel cannot take these tensors; None if it can."""
    if not queries.device == keys.device == rows.device == columns.device:
        return "tensors on different devices"
    for tensor in (queries, keys):
        if tensor.dtype not in _DTYPES:
            return f"dtype {tensor.dtype}"
    if queries.dtype != keys.dtype:
        return "queries and keys of different dtypes"
    if not 1 <= queries.shape[2] <= MOST_WIDTH:
        return f"width {queries.shape[2]}, not 1 to {MOST_WIDTH}"
    if not 0 < queries.shape[1] * queries.shape[2] < 2**31:
        return "a map without pixels, or of 2^31 numbers or more"
    return dispatch.device_obstacle(queries.device.type, queries.device.index)
