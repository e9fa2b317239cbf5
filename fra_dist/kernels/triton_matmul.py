"""A matrix product inside Triton kernels whose operands may be of different precision."""

# Triton gives its own meaning to annotations of kernel arguments.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def matmul(a, b, total, HALF: tl.constexpr):
    """The sum total + a @ b in fp32.

    HALF: the 16-bit type of the tensor cores' operands; an fp32 side is split in two.
    """
    if HALF is None:
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="tf32x3")
    else:
        a_high, b_high = a.to(HALF), b.to(HALF)
        if a.dtype == tl.float32:
            total = tl.dot((a - a_high.to(tl.float32)).to(HALF), b_high, total)
        if b.dtype == tl.float32:
            total = tl.dot(a_high, (b - b_high.to(tl.float32)).to(HALF), total)
        total = tl.dot(a_high, b_high, total)
    return total
