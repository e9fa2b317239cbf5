"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "every image the first": ("image = tl.program_id(0) // groups", "image = tl.program_id(0) * 0", "no dropout"),
    "every head the first": ("* together + r // Q\n", "* together + r * 0\n", "no dropout"),
    "every query the first": ("return image, head, r % Q, place", "return image, head, r * 0, place", "no dropout"),
    "heads see each other": (
        "tl.where(head[:, None] == head[None, :], product",
        "tl.where(True, product",
        "no dropout",
    ),
    "scores not scaled": (
        'product(a, tl.trans(k), HALF) * scale, float("-inf"))',
        'product(a, tl.trans(k), HALF), float("-inf"))',
        "no dropout",
    ),
    "softmax without its maximum": ("w = tl.exp(s - tl.max(s, axis=1)[:, None])", "w = tl.exp(s)", "sharp"),
    "weights not divided": ("w = w / tl.sum(w, axis=1)[:, None]", "w = w * 1.0", "no dropout"),
    "nothing dropped": ("tl.where(kept, keep_scale, 0.0)", "tl.where(kept, keep_scale, keep_scale)", "decoder"),
    "kept weights not scaled": ("tl.where(kept, keep_scale, 0.0)", "tl.where(kept, 1.0, 0.0)", "decoder"),
    "one mask for all heads": ("(head * Q + query)[:, None]", "query[:, None]", "decoder"),
    "one mask for all queries": ("(head * Q + query)[:, None]", "(head * Q)[:, None]", "decoder"),
    "mask exchanged": (
        "(head * Q + query)[:, None] * Q + query[None, :]",
        "(head * Q + query)[None, :] * Q + query[:, None]",
        "decoder",
    ),
    "one call for all views": ("call + (row // B) * span", "call + row * 0", "decoder"),
    "keys of other images": ("keys + row % B", "keys + (row + 1) % B", "decoder"),
    "calls not cut to 62 bits": (" & 0x3FFFFFFFFFFFFFFF", "", "a late call"),
    "output without the mask": ("product(w * factor, tl.load(v", "product(w, tl.load(v", "decoder"),
    "gradient of values without the mask": ("tl.trans(w * factor), given", "tl.trans(w), given", "decoder"),
    "dropped weights have gradients": (", HALF) * factor\n", ", HALF)\n", "decoder"),
    "gradient not centred": ("(d_weight - tl.sum(w * d_weight, axis=1)[:, None])", "d_weight", "no dropout"),
    "gradient not scaled": ("[:, None]) * scale\n", "[:, None])\n", "no dropout"),
    "queries' gradient from queries": (
        "d_query = product(ds, k, HALF)",
        "d_query = product(ds, a, HALF)",
        "no dropout",
    ),
    "keys' gradient not turned": ("product(tl.trans(ds), a, HALF)", "product(ds, a, HALF)", "no dropout"),
    "gradients exchanged": ("tl.store(d_qk + D + double, d_key", "tl.store(d_qk + double, d_key", "no dropout"),
}
