"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "prototypes not normalised": (
        "dots * z_inverse[:, None] * p_inverse[None, :]",
        "dots * z_inverse[:, None]",
        "one pixel, one region",
    ),
    "norm floor too high": ("NORM_FLOOR = tl.constexpr(1e-12)", "NORM_FLOOR = tl.constexpr(1e-3)", "tiny vectors"),
    "norm floor missing for pixels": (
        "1.0 / tl.maximum(tl.sqrt(z_square), NORM_FLOOR)",
        "1.0 / tl.sqrt(z_square)",
        "pixels below the norm floor",
    ),
    "norm of the last columns only": (
        "z_square += tl.sum(",
        "z_square = tl.sum(",
        "7x7",
    ),
    "softmax without its maximum": (
        "tl.exp(logits - tl.max(logits, axis=1)[:, None])",
        "tl.exp(logits)",
        "hard softmax",
    ),
    "padded regions share the softmax": (
        'tl.where((q < Q)[None, :], s / temperature, float("-inf"))',
        "s / temperature",
        "5x13, NCHW, large epsilon",
    ),
    "no epsilon in pooling": (
        "tl.where(inside, softmax(sim, q, temperature, Q) + epsilon, 0.0)",
        "tl.where(inside, softmax(sim, q, temperature, Q), 0.0)",
        "5x13, NCHW, large epsilon",
    ),
    "no epsilon in the features' gradient": (
        "(share + epsilon) / total[None, :]",
        "share / total[None, :]",
        "5x13, NCHW, large epsilon",
    ),
    "padded pixels have mass": (
        "tl.where(inside, softmax(sim, q, temperature, Q) + epsilon, 0.0)",
        "softmax(sim, q, temperature, Q) + epsilon",
        "small",
    ),
    "mass of the last block only": (
        "total += tl.sum(heat, axis=0)",
        "total = tl.sum(heat, axis=0)",
        "5x13, NCHW, large epsilon",
    ),
    "sum instead of mean": ("(pooled / total[None, :])", "pooled", "small"),
    "first channel block everywhere": ("c = block * BC + tl.arange(0, BC)", "c = tl.arange(0, BC)", "wide"),
    "columns lost": (
        "(pixel // W) * sh + (pixel % W) * sw",
        "(pixel // W) * sh",
        "10x20, sliced",
    ),
    "mean region left in the gradient": ("(slope - level[None, :])", "slope", "small"),
    "softmax gradient not centred": (
        "share * (d_heat - tl.sum(share * d_heat, axis=1)[:, None])",
        "share * d_heat",
        "small",
    ),
    "no temperature in the gradient": ("direct + d_logit / temperature", "direct + d_logit", "small"),
    "direct gradient lost": ("direct + d_logit / temperature", "d_logit / temperature", "small"),
    "radial part of the pixels' gradient left": (
        "d_tile -= radial[:, None] * tile.to(tl.float32)",
        "d_tile -= 0.0",
        "small",
    ),
    "radial part scaled once": ("radial * scale * scale", "radial * scale", "small"),
    "floored pixels lose a radial part": (
        "tl.where(scale > CLAMPED, 0.0, radial * scale * scale)",
        "radial * scale * scale",
        "pixels below the norm floor",
    ),
    "floored prototypes lose a radial part": (
        "tl.where(scale > CLAMPED, 0.0, tl.sum(unit * d_unit, axis=0))",
        "tl.sum(unit * d_unit, axis=0)",
        "prototypes below the norm floor",
    ),
    "radial part of the prototypes' gradient left": ("(d_unit - radial * unit)", "d_unit", "small"),
    "blocks skipped": ("range(split, work, splits)", "range(split, work, splits + 1)", "few splits"),
    "only the first partial sums": ("range(0, splits, STEP)", "range(0, STEP, STEP)", "wide"),
    "lower half of the weights lost": (
        "total = tl.dot((a - a_high.to(tl.float32)).to(HALF), b_high, total)",
        "total = total",
        "split halves",
    ),
    "lower half of the prototypes lost": (
        "total = tl.dot(a_high, (b - b_high.to(tl.float32)).to(HALF), total)",
        "total = total",
        "split halves",
    ),
}
