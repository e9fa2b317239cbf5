"""The Triton kernel of dropout's masks: a program owns a block of one image's elements."""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

from fra_dist.kernels.triton_dropout import call_key, is_kept


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def mask_kernel(
    keys, keep, call, span, threshold, B, E,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The mask keep (V B, E) of E elements per image, from keys (B,)."""
    blocks = tl.cdiv(E, BLOCK)
    row = tl.program_id(0) // blocks
    e = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    kept = is_kept(call_key(keys, row, B, call, span), e, threshold)
    tl.store(keep + row.to(tl.int64) * E + e, kept.to(tl.uint8), mask=e < E)
