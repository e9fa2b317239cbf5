"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "keys without codes": ("rows_of(code, u, d, P, D).to(tl.float32)).to(TYPE)", "0.0).to(TYPE)", "7x7"),
    "values with codes": (
        "return m, (m.to(tl.float32)",
        "return m + rows_of(code, u, d, P, D), (m.to(tl.float32)",
        "7x7",
    ),
    "first image only": ("memory + image.to(tl.int64) * P * D", "memory + image.to(tl.int64) * 0", "7x7"),
    "nothing dropped": (
        "return tl.where(tl.load(keep + place, mask=inside, other=0) != 0, keep_scale, 0.0)",
        "return tl.where(inside, 1.0, 0.0)",
        "dropout",
    ),
    "kept weights not scaled": ("other=0) != 0, keep_scale, 0.0)", "other=0) != 0, 1.0, 0.0)", "dropout"),
    "mask of the first row": ("R * P + r[:, None] * P + u[None, :]", "R * P + r[:, None] * 0 + u[None, :]", "dropout"),
    "padded pixels share the softmax": (
        's = tl.where((u < P)[None, :], product(a, tl.trans(k), HALF) * scale, float("-inf"))\n        higher',
        "s = product(a, tl.trans(k), HALF) * scale\n        higher",
        "7x7",
    ),
    "scores not scaled": (
        'product(a, tl.trans(k), HALF) * scale, float("-inf"))\n        higher',
        'product(a, tl.trans(k), HALF), float("-inf"))\n        higher',
        "7x7",
    ),
    "softmax without its maximum": ("w = tl.exp(s - higher[:, None])", "w = tl.exp(s)", "7x7"),
    "maximum of the last block only": (
        "higher = tl.maximum(top, tl.max(s, axis=1))",
        "higher = tl.max(s, axis=1)",
        "sharp",
    ),
    "mass not carried to a new maximum": ("mass = mass * shrink +", "mass = mass +", "several blocks"),
    "share not carried to a new maximum": ("share = share * shrink +", "share = share +", "several blocks"),
    "sums not carried to a new maximum": ("sums = sums * shrink[:, None] +", "sums = sums +", "several blocks"),
    "sum for the mean": ("(sums / mass[:, None])", "sums", "7x7"),
    "total not divided": ("tl.store(total + base + place, share / mass", "tl.store(total + base + place, share", "7x7"),
    "log-sum without the maximum": ("top + tl.log(mass)", "tl.log(mass)", "7x7"),
    "padded pixels have gradients": (
        's = tl.where((u < P)[None, :], product(a, tl.trans(k), HALF) * scale, float("-inf"))\n    w',
        "s = product(a, tl.trans(k), HALF) * scale\n    w",
        "one sharp pixel",
    ),
    "gradient of the total lost": ("+ d_total[:, None]", "+ 0.0 * d_total[:, None]", "dropout"),
    "dropped weights have gradients": ("w * (d_weight * factor - level", "w * (d_weight - level", "dropout"),
    "gradient not centred": ("(d_weight * factor - level[:, None])", "(d_weight * factor)", "7x7"),
    "gradient not scaled": ("- level[:, None]) * scale", "- level[:, None])", "7x7"),
    "centre without the total": ("mean += dt * tl.load(total", "mean += 0.0 * tl.load(total", "7x7"),
    "rows' gradient from pixels, not keys": ("sums += product(ds, k, HALF)", "sums += product(ds, m, HALF)", "7x7"),
    "rows' gradient of the last block only": (
        "sums += product(ds, k, HALF)",
        "sums = product(ds, k, HALF)",
        "several blocks",
    ),
    "pixels as values have no gradient": (
        "sums += product(tl.trans(w), given, HALF)",
        "sums += 0.0 * product(tl.trans(w), given, HALF)",
        "7x7",
    ),
    "pixels as keys have no gradient": (
        "sums += product(tl.trans(ds), a, HALF)",
        "sums += 0.0 * product(tl.trans(ds), a, HALF)",
        "7x7",
    ),
    "some rows give no gradient": ("for start in range(0, R, BR):", "for start in range(0, BR, BR):", "several blocks"),
    "some pixels are not seen": (
        "for start in range(0, P, BU):\n        u = start + tl.arange(0, BU)\n        m, k = pixels_of("
        "memory, code, image, u, d, P, D, memory.dtype.element_ty)\n        s =",
        "for start in range(0, BU, BU):\n        u = start + tl.arange(0, BU)\n        m, k = pixels_of("
        "memory, code, image, u, d, P, D, memory.dtype.element_ty)\n        s =",
        "several blocks",
    ),
    "heads as if one image": ("r // Q * (B * Q) + r % Q", "r // Q * Q + r % Q", "heads"),
    "every query the first": ("r // Q * (B * Q) + r % Q", "r // Q * (B * Q)", "heads"),
    "shift without the sums": ("value = (share / mass)[:, None] * tl.load(bias", "value = tl.load(bias", "dropout"),
    "shift of the first head": ("channel = (r // Q * W)[:, None]", "channel = (r * 0)[:, None]", "heads"),
    "shift of the first query": ("base * D + (r % Q * D)[:, None] + channel", "base * D + channel", "heads"),
    "bias' gradient without the sums": ("tl.sum(given * t[:, None], axis=0)", "tl.sum(given, axis=0)", "dropout"),
    "sums' gradient without the bias": ("tl.sum(given * b[None, :], axis=1)", "tl.sum(given, axis=1)", "dropout"),
    "the keys' bias has a gradient": ("part, tl.zeros((WP,), tl.float32)", "part, tl.sum(given, axis=0)", "heads"),
    "some queries give the bias no gradient": ("tl.program_id(0) * BN + tl.arange", "tl.arange", "many queries"),
}
