"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "nothing dropped": ("tl.where(kept, keep_scale, 0.0)", "tl.where(kept, keep_scale, keep_scale)", "decoder"),
    "kept elements not scaled": ("tl.where(kept, keep_scale, 0.0)", "tl.where(kept, 1.0, 0.0)", "decoder"),
    "one mask for all queries": ("query * D + c, threshold", "c, threshold", "decoder"),
    "one call for all views": ("call + (row // B) * span", "call + row * 0", "decoder"),
    "keys of other images": ("keys + row % B", "keys + (row + 1) % B", "decoder"),
    "calls not cut to 62 bits": (" & 0x3FFFFFFFFFFFFFFF", "", "a late call"),
    "no residual": ("s = tl.load(x + place, mask=inside, other=0.0) + s * factor", "s = s * factor", "no dropout"),
    "mean of the padded row": ("s - tl.sum(s, axis=0) / D", "s - tl.sum(s, axis=0) / s.shape[0]", "far from zero"),
    "mean not taken off": ("s - tl.sum(s, axis=0) / D", "s", "far from zero"),
    "variance with the padding": (
        "tl.where(inside, s - tl.sum(s, axis=0) / D, 0.0)",
        "s - tl.sum(s, axis=0) / D",
        "far from zero",
    ),
    "no epsilon": ("/ D + eps)", "/ D + 1e-5)", "a large epsilon"),
    "every query the first": (
        "query = tl.program_id(0) % Q\n    c = tl.arange(0, DP)\n    inside = c < D\n    place",
        "query = tl.program_id(0) * 0\n    c = tl.arange(0, DP)\n    inside = c < D\n    place",
        "decoder",
    ),
    "every image the first": ("image = tl.program_id(0) // Q\n", "image = tl.program_id(0) * 0\n", "decoder"),
    "no weight": ("out = n * tl.load(weight + c, mask=inside, other=0.0) +", "out = n +", "no dropout"),
    "no bias": (" + tl.load(bias + c, mask=inside, other=0.0)", "", "no dropout"),
    "queries not added": ("out + tl.load(queries + query * D + c, mask=inside, other=0.0)", "out", "no dropout"),
    "code of the first query": ("queries + query * D + c, mask", "queries + c, mask", "no dropout"),
    "rounded not written": ("    if ROUNDED:\n        tl.store", "    if DP < 0:\n        tl.store", "bf16"),
    "gradient of the output left out": ("g += tl.load(d_y", "g += 0.0 * tl.load(d_y", "no dropout"),
    "gradient of rounded left out": ("g += tl.load(d_rounded", "g += 0.0 * tl.load(d_rounded", "bf16"),
    "gradient of asked left out": ("            g += moved\n", "", "no dropout"),
    "queries have no gradient": ("            code += moved\n", "", "no dropout"),
    "gradient of the weight not normalised": ("slope += g * n", "slope += g", "no dropout"),
    "gradient of the bias weighted": ("level += g\n", "level += g * w\n", "no dropout"),
    "gradient not weighted": ("        g *= w\n", "", "no dropout"),
    "gradient not centred": ("(g - tl.sum(g, axis=0) / D - n", "(g - n", "no dropout"),
    "gradient of the variance left out": (" - n * (tl.sum(g * n, axis=0) / D))", ")", "no dropout"),
    "gradient not scaled": ("(tl.sum(g * n, axis=0) / D)) * inverse", "(tl.sum(g * n, axis=0) / D))", "no dropout"),
    "dropped elements have gradients": ("(ds * factor)", "ds", "decoder"),
    "residual's gradient dropped": ("tl.store(d_x + place, ds,", "tl.store(d_x + place, ds * factor,", "decoder"),
    "some rows left out": (
        "range(tl.program_id(0) // Q, N, S)",
        "range(tl.program_id(0) // Q, S, S)",
        "more rows than programs",
    ),
    "sums of the first pieces": ("range(0, pieces, BR)", "range(0, BR, BR)", "more rows than programs"),
    "sums of queries mixed": ("step = tl.where(row < 2, 1, Q)", "step = 1", "no dropout"),
    "gradients exchanged": (
        "first = partial + (tl.minimum(row, 2)",
        "first = partial + (2 - tl.minimum(row, 2)",
        "no dropout",
    ),
    "queries' gradient the first's": ("query = tl.maximum(row - 2, 0)", "query = row * 0", "no dropout"),
}
