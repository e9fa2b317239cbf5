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
    "last tile of the moments only": ("total += tl.sum(value, axis=0)", "total = tl.sum(value, axis=0)", "few splits"),
    "sum for the sum of squares": (
        "square += tl.sum(value * value, axis=0)",
        "square += tl.sum(value, axis=0)",
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
        "given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)\n        value",
        "given = given\n        value",
        "small",
    ),
    "gradients do not see the ReLU": (
        "given = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0, given, 0.0)\n    centre",
        "given = given\n    centre",
        "small",
    ),
    "sums not centred": ("(value - centre[None, :]) * factor[None, :], 0.0)", "value * factor[None, :], 0.0)", "small"),
    "last tile of the sums only": (
        "slope += tl.sum(given * unit, axis=0)",
        "slope = tl.sum(given * unit, axis=0)",
        "few splits",
    ),
    "level left in the gradient": ("inner = given - tl.load(level", "inner = given - 0.0 * tl.load(level", "small"),
    "slope left in the gradient": ("inner -= unit * tl.load(slope", "inner -= 0.0 * unit * tl.load(slope", "small"),
    "gradient not scaled": ("result = inner * tl.load(factor", "result = inner + 0.0 * tl.load(factor", "small"),
    "residual's gradient not rectified": (
        "tl.store(d_residual + place, given.to(d_residual",
        "tl.store(d_residual + place, tl.load(dy + place, mask=inside, other=0.0).to(d_residual",
        "small",
    ),
    "mean square around the first row": (
        "square - offset * offset + mean * mean",
        "square + mean * mean",
        "small",
    ),
    "first part of the rows only": (
        "inside = (split < splits)[:, None]",
        "inside = (split < 1)[:, None]",
        "few splits",
    ),
    "mean square for the variance": ("- exact * exact).to(tl.float32)", "- 0.0 * exact).to(tl.float32)", "small"),
    "variance without eps": ("tl.sqrt_rn(var + eps)", "tl.sqrt_rn(var + 0.0 * eps)", "large eps"),
    "NaN variance lost": ("tl.where(var < 0.0, 0.0, var)", "tl.where(var > 0.0, var, 0.0)", "NaN"),
    "weight of the first channel": ("tl.load(weight + i % C,", "tl.load(weight + i * 0,", "small"),
    "running mean of the first group": (
        "centre += (tl.load(mean + group * C + c,",
        "centre += (tl.load(mean + c,",
        "running statistics",
    ),
    "biased running variance": ("* correction - spread)", "* (0.0 * correction + 1.0) - spread)", "running statistics"),
    "groups not counted": ("tl.load(tracked) + G", "tl.load(tracked) + 1", "running statistics"),
}
