"""Triton kernels of LARS and the EMA: a program owns a chunk of one tensor, found through tables of addresses.

Tables of n tensors: `addresses` (rows of n: parameter, gradient, velocity, target, and whether all are on a multiple
of 16 bytes), `sizes`, and `first`, the number of each tensor's first chunk (n + 1); `owner`: the tensor of each chunk.
Full blocks of aligned tensors are read and written 16 bytes at a time.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton gives its own meaning to annotations of kernel arguments.

import triton
import triton.language as tl

EPSILON = tl.constexpr(1e-8)


@triton.jit
def chunk_of(addresses, sizes, owner, first, n, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """What a program owns: the tensor, the first element, the end of the aligned full blocks,
    and the end of the chunk."""
    chunk = tl.program_id(0)
    i = tl.load(owner + chunk)
    start = (chunk - tl.load(first + i)) * CHUNK
    end = min(start + CHUNK, tl.load(sizes + i))
    aligned = tl.load(addresses + 4 * n + i).to(tl.int32)
    edge = start + (end - start) // BLOCK * BLOCK * aligned
    return i, start, edge, end


@triton.jit
def pointer(addresses, row, n, i, TYPE: tl.constexpr):
    """The address that a table holds for one tensor, as a pointer to elements of TYPE."""
    return tl.load(addresses + row * n + i).to(tl.pointer_type(TYPE))


@triton.jit
def squares_kernel(
    addresses, sizes, owner, first, partial, n,
    GRADIENT: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of squares of one chunk, of the parameter and of the gradient."""
    i, start, edge, end = chunk_of(addresses, sizes, owner, first, n, CHUNK, BLOCK)
    p = pointer(addresses, 0, n, i, tl.float32)
    g = pointer(addresses, 1, n, i, GRADIENT)
    p_sum = tl.zeros((BLOCK,), tl.float32)
    g_sum = tl.zeros((BLOCK,), tl.float32)
    for at in range(start, edge, BLOCK):
        place = tl.multiple_of(at, BLOCK) + tl.arange(0, BLOCK)
        x = tl.load(tl.multiple_of(p + place, 16))
        y = tl.load(tl.multiple_of(g + place, 16)).to(tl.float32)
        p_sum += x * x
        g_sum += y * y
    p_total, g_total = tl.sum(p_sum, axis=0), tl.sum(g_sum, axis=0)
    for at in range(edge, end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        x = tl.load(p + place, mask=place < end, other=0.0)
        y = tl.load(g + place, mask=place < end, other=0.0).to(tl.float32)
        p_total += tl.sum(x * x, axis=0)
        g_total += tl.sum(y * y, axis=0)
    tl.store(partial + tl.program_id(0), p_total.to(tl.float64))
    tl.store(partial + tl.num_programs(0) + tl.program_id(0), g_total.to(tl.float64))


@triton.jit
def sum_of(partial, start, end, STEP: tl.constexpr):
    """The sum of the partial sums from start to end, added in order."""
    total = tl.zeros((STEP,), tl.float64)
    for at in range(start, end, STEP):
        place = at + tl.arange(0, STEP)
        total += tl.load(partial + place, mask=place < end, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit
def gather_kernel(partial, first, result, n, columns, STEP: tl.constexpr):
    """Sum of the chunks' partial sums for one tensor."""
    i = tl.program_id(0)
    start, end = tl.load(first + i), tl.load(first + i + 1)
    tl.store(result + i, sum_of(partial, start, end, STEP))
    tl.store(result + n + i, sum_of(partial + columns, start, end, STEP))


@triton.jit
def moved(p, g, v, length, decay, momentum):
    """The new velocity and the new parameter after a step."""
    v = momentum * v + length * (g + decay * p)
    return v, p - v


@triton.jit
def step_kernel(
    addresses, sizes, owner, first, partial, place_of, columns, decays, adapted, found_inf, n,
    lr, momentum, trust, pace,
    GRADIENT: tl.constexpr, GUARD: tl.constexpr, EMA: tl.constexpr,
    STEP: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One chunk of the step. place_of (n + 1): where a tensor's sums of squares are; pace is 1 − m."""
    i, start, edge, end = chunk_of(addresses, sizes, owner, first, n, CHUNK, BLOCK)
    if GUARD:
        held = tl.load(found_inf) != 0
        edge = tl.where(held, start, edge)
        end = tl.where(held, start, end)
    decay = tl.load(decays + i)
    low, high = tl.load(place_of + i), tl.load(place_of + i + 1)
    high = tl.where(tl.load(adapted + i) != 0, high, low)
    p_norm = tl.sqrt(sum_of(partial, low, high, STEP)).to(tl.float32)
    g_norm = tl.sqrt(sum_of(partial + columns, low, high, STEP)).to(tl.float32)
    length = lr * tl.where(p_norm > 0, trust * p_norm / (g_norm + decay * p_norm + EPSILON), 1.0)
    p = pointer(addresses, 0, n, i, tl.float32)
    g = pointer(addresses, 1, n, i, GRADIENT)
    v = pointer(addresses, 2, n, i, tl.float32)
    follower = tl.load(addresses + 3 * n + i)
    t = follower.to(tl.pointer_type(tl.float32))
    for at in range(start, edge, BLOCK):
        place = tl.multiple_of(at, BLOCK) + tl.arange(0, BLOCK)
        old = tl.load(tl.multiple_of(p + place, 16))
        slope = tl.load(tl.multiple_of(g + place, 16)).to(tl.float32)
        speed, new = moved(old, slope, tl.load(tl.multiple_of(v + place, 16)), length, decay, momentum)
        tl.store(tl.multiple_of(v + place, 16), speed)
        tl.store(tl.multiple_of(p + place, 16), new)
        if EMA:  # noqa: SIM102 (known at compile time, unlike the next)
            if follower != 0:
                behind = tl.load(tl.multiple_of(t + place, 16))
                tl.store(tl.multiple_of(t + place, 16), behind + pace * (new - behind))
    for at in range(edge, end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        inside = place < end
        old = tl.load(p + place, mask=inside, other=0.0)
        slope = tl.load(g + place, mask=inside, other=0.0).to(tl.float32)
        speed, new = moved(old, slope, tl.load(v + place, mask=inside, other=0.0), length, decay, momentum)
        tl.store(v + place, speed, mask=inside)
        tl.store(p + place, new, mask=inside)
        if EMA:  # noqa: SIM102 (known at compile time, unlike the next)
            if follower != 0:
                behind = tl.load(t + place, mask=inside, other=0.0)
                tl.store(t + place, behind + pace * (new - behind), mask=inside)


@triton.jit
def follow_kernel(
    addresses, sizes, owner, first, found_inf, n, pace,
    GRADIENT: tl.constexpr, GUARD: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One chunk of the EMA alone.

    The table's row of parameters holds the targets, and its row of gradients the online weights, of type GRADIENT.
    """
    i, start, edge, end = chunk_of(addresses, sizes, owner, first, n, CHUNK, BLOCK)
    if GUARD:
        held = tl.load(found_inf) != 0
        edge = tl.where(held, start, edge)
        end = tl.where(held, start, end)
    t = pointer(addresses, 0, n, i, tl.float32)
    p = pointer(addresses, 1, n, i, GRADIENT)
    for at in range(start, edge, BLOCK):
        place = tl.multiple_of(at, BLOCK) + tl.arange(0, BLOCK)
        behind = tl.load(tl.multiple_of(t + place, 16))
        ahead = tl.load(tl.multiple_of(p + place, 16)).to(tl.float32)
        tl.store(tl.multiple_of(t + place, 16), behind + pace * (ahead - behind))
    for at in range(edge, end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        behind = tl.load(t + place, mask=place < end, other=0.0)
        ahead = tl.load(p + place, mask=place < end, other=0.0).to(tl.float32)
        tl.store(t + place, behind + pace * (ahead - behind), mask=place < end)
