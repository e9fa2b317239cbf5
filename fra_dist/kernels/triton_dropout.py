"""The hash of dropout's masks inside Triton kernels; `kernels/dropout_mask/` has the formula."""

# Triton gives its own meaning to annotations of kernel arguments.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def mix(x):
    """SplitMix64's finaliser, applied to uint64 words, which wrap around and shift zeros in."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def call_key(keys, row, B, call, span):
    """The word of a row of the batch: of image row % B, in the call that its view makes."""
    number = (call + (row // B) * span).to(tl.uint64)
    offset = (number * 0x632BE59BD9B4E019) & 0x3FFFFFFFFFFFFFFF
    return mix(tl.load(keys + row % B).to(tl.uint64) + offset)


@triton.jit
def is_kept(own, e, threshold):
    """Whether elements e of the row with the word `own` are kept; threshold is p 2⁵³."""
    word = mix(own + e.to(tl.uint64) * 0x9E3779B97F4A7C15)
    return (word >> 11).to(tl.int64) >= threshold
