"""The fused kernels of a training step, each with a plain PyTorch reference beside it; see `docs/kernels.md`.

`describe()` says which path each kernel takes and why; `force("reference")` or `force("triton")` insists on one.
"""

from fra_dist.kernels import batch_norm as _batch_norm  # noqa: F401  (registers itself)
from fra_dist.kernels import correspondence as _correspondence  # noqa: F401  (registers itself)
from fra_dist.kernels import decoder_attention as _decoder_attention  # noqa: F401  (registers itself)
from fra_dist.kernels import dropout_mask as _dropout_mask  # noqa: F401  (registers itself)
from fra_dist.kernels import lars_ema as _lars_ema  # noqa: F401  (registers itself)
from fra_dist.kernels import region_attention as _region_attention  # noqa: F401  (registers itself)
from fra_dist.kernels import relation as _relation  # noqa: F401  (registers itself)
from fra_dist.kernels.dispatch import Choice, describe, force

__all__ = ["Choice", "describe", "force"]
