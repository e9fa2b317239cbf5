"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice)."""

MUTANTS = {
    "padded rows count": (
        "value = tl.where(inside, value - first[None, :], 0.0)",
        "value = value - first[None, :]",
        "small",
    ),
    "moments around zero": (
        "first = tl.load(base + c, mask=c < C, other=0.0).to(tl.float32)",
        "first = tl.load(base + c, mask=c < C, other=0.0).to(tl.float32) * 0.0",
        "small",
    ),
    "last tile of the moments only": ("total += value", "total = value", "few splits"),
    "sum for the sum of squares": (
        "square += value * value",
        "square += value",
        "small",
    ),
    "statistics of the first group": ("a = tl.load(scale + group * C + c,", "a = tl.load(scale + c,", "small"),
    "shift of the first group": ("b = tl.load(shift + group * C + c,", "b = tl.load(shift + c,", "small"),
    "residual lost": ("value += tl.load(residual + place", "value += 0.0 * tl.load(residual + place", "small"),
    "not rectified": (
        "value = tl.where(value < 0.0, 0.0, value)",
        "value = tl.where(value < 0.0, value, value)",
        "small",
    ),
    "NaN rectified": ("value = tl.where(value < 0.0, 0.0, value)", "value = tl.where(value > 0.0, value, 0.0)", "NaN"),
    "sums do not see the ReLU": (
        "given = rectified(given, value, gain, base)",
        "given = given",
        "ReLU without residual",
    ),
    "sums do not see the ReLU after a residual": (
        "given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)",
        "given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, given)",
        "small",
    ),
    "gradients do not see the ReLU": (
        "given = rectified(given, value, a, tl.load(shift + channel, mask=c < C, other=0.0))",
        "given = given",
        "ReLU without residual",
    ),
    "second gradient lost": ("given += tl.load(more + place", "given += 0.0 * tl.load(more + place", "two gradients"),
    "sum of the gradients not rounded": (
        "given = kept.to(tl.float32)",
        "given = given + 0.0 * kept.to(tl.float32)",
        "two gradients",
    ),
    "ReLU by the input without its shift": (
        "scale[None, :] + shift[None, :] > 0.0",
        "scale[None, :] > 0.0",
        "ReLU without residual",
    ),
    "ReLU by the input without its scale": ("value * scale[None, :] + shift", "value + shift", "ReLU without residual"),
    "sums not centred": ("(value - centre[None, :]) * factor[None, :], 0.0)", "value * factor[None, :], 0.0)", "small"),
    "last tile of the sums only": (
        "slope += given * unit",
        "slope = given * unit",
        "few splits",
    ),
    "level left in the gradient": ("inner = given - tl.load(level", "inner = given - 0.0 * tl.load(level", "small"),
    "slope left in the gradient": ("inner -= unit * tl.load(slope", "inner -= 0.0 * unit * tl.load(slope", "small"),
    "gradient not scaled": ("result = inner * a", "result = inner + 0.0 * a", "small"),
    "residual's gradient not rectified": (
        "tl.store(g + place, kept,",
        "tl.store(g + place, tl.load(dy + place, mask=inside, other=0.0),",
        "small",
    ),
    "mean square around the first row": (
        "square - offset * offset + mean * mean",
        "square + mean * mean",
        "small",
    ),
    "first part of the rows only": (
        "inside = (split < splits)[:, None] & (c < C)[None, :]\n    place",
        "inside = (split < 1)[:, None] & (c < C)[None, :]\n    place",
        "few splits",
    ),
    "first part of the rows only, on one rank": (
        "inside = (split < splits)[:, None] & (c < C)[None, :]\n    gain",
        "inside = (split < 1)[:, None] & (c < C)[None, :]\n    gain",
        "few splits",
    ),
    "first part of the gradients only, on one rank": (
        "inside = (split < splits)[:, None] & (c < C)[None, :]\n    levels",
        "inside = (split < 1)[:, None] & (c < C)[None, :]\n    levels",
        "few splits",
    ),
    "mean square for the variance": ("- exact * exact).to(tl.float32)", "- 0.0 * exact).to(tl.float32)", "small"),
    "variance without eps": (
        "inverse = 1.0 / tl.sqrt_rn(var + eps)\n    scale",
        "inverse = 1.0 / tl.sqrt_rn(var + 0.0 * eps)\n    scale",
        "large eps",
    ),
    "variance without eps, on one rank": (
        "inverse = 1.0 / tl.sqrt_rn(var + eps)\n        scale",
        "inverse = 1.0 / tl.sqrt_rn(var + 0.0 * eps)\n        scale",
        "large eps",
    ),
    "NaN variance lost": (
        "var = tl.where(var < 0.0, 0.0, var)  # keeps NaN\n    mean",
        "var = tl.where(var > 0.0, var, 0.0)\n    mean",
        "NaN",
    ),
    "NaN variance lost, on one rank": (
        "var = tl.where(var < 0.0, 0.0, var)  # keeps NaN\n        inverse",
        "var = tl.where(var > 0.0, var, 0.0)\n        inverse",
        "NaN",
    ),
    "weight of the first channel": ("tl.load(weight + i % C,", "tl.load(weight + i * 0,", "small"),
    "running mean of the first group": (
        "centre += (tl.load(mean + group * C + c,",
        "centre += (tl.load(mean + c,",
        "running statistics",
    ),
    "biased running variance": (
        "other=0.0) * correction - spread)",
        "other=0.0) * (0.0 * correction + 1.0) - spread)",
        "running statistics",
    ),
    "groups not counted": (
        "\n        tl.store(tracked, tl.load(tracked) + G)",
        "\n        tl.store(tracked, tl.load(tracked) + 1)",
        "running statistics",
    ),
    "groups not counted, on one rank": (
        "\n            tl.store(tracked, tl.load(tracked) + G)",
        "\n            tl.store(tracked, tl.load(tracked) + 1)",
        "running with the norm",
    ),
    "mean square for the variance, on one rank": ("square - offset * offset).to", "square + 0.0 * offset).to", "small"),
    "weight left out, on one rank": ("scale = gain * inverse", "scale = 0.0 * gain + inverse", "small"),
    "bias left out, on one rank": ("base - mean * scale", "0.0 * base - mean * scale", "small"),
    "running mean does not follow, on one rank": (
        "centre += (mean - centre) * momentum",
        "centre += 0.0 * mean",
        "running with the norm",
    ),
    "biased running variance, on one rank": (
        "spread += (var * correction - spread)",
        "spread += (var + 0.0 * correction - spread)",
        "running with the norm",
    ),
    "first row of the first group": ("(long + group) * R * C", "long * R * C", "small"),
    "negative values in the map that is made again": (
        "tl.where(before < 0.0, 0.0, before)",
        "before",
        "into a convolution",
    ),
    "map made again without its shift": (
        "before = value * gain[None, :] + base[None, :]",
        "before = value * gain[None, :] + 0.0 * base[None, :]",
        "into a convolution",
    ),
    "sum for the mean, on one rank": ("c, level / R, mask", "c, level, mask", "small"),
    "gradient of the bias from the last group": ("levels += level", "levels = level", "small"),
    "gradient of the weight from the last group": ("slopes += slope", "slopes = slope", "small"),
}
