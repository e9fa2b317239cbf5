"""The Triton kernel of dropout's masks: a program owns a block of one image's elements."""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl


@triton.jit
def mix(x):
    """SplitMix64's finaliser, applied to uint64 words, which wrap around and shift zeros in."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit(do_not_specialize=["call", "span", "threshold"])
def mask_kernel(
    keys, keep, call, span, threshold, B, E,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The mask keep (V B, E) of E elements per image, from keys (B,)."""
    blocks = tl.cdiv(E, BLOCK)
    row = tl.program_id(0) // blocks
    e = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    number = (call + (row // B) * span).to(tl.uint64)
    offset = (number * 0x632BE59BD9B4E019) & 0x3FFFFFFFFFFFFFFF
    own = mix(tl.load(keys + row % B).to(tl.uint64) + offset)
    word = mix(own + e.to(tl.uint64) * 0x9E3779B97F4A7C15)
    kept = (word >> 11).to(tl.int64) >= threshold
    tl.store(keep + row.to(tl.int64) * E + e, kept.to(tl.uint8), mask=e < E)
