"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice)."""

MUTANTS = {
    "second predictions lost": (
        "        p = p2\n        t = t2\n    q = tl.arange(0, QP)\n    rows",
        "        p = p1\n        t = t2\n    q = tl.arange(0, QP)\n    rows",
        "small",
    ),
    "second targets lost": (
        "        p = p2\n        t = t2\n    q = tl.arange(0, QP)\n    rows",
        "        p = p2\n        t = t1\n    q = tl.arange(0, QP)\n    rows",
        "small",
    ),
    "first image only": ("rows = (image.to(tl.int64) * Q + q)", "rows = (image.to(tl.int64) * 0 + q)", "small"),
    "last columns only": (
        "dots = matmul(prediction, tl.trans(target), dots, HALF)",
        "dots = matmul(prediction, tl.trans(target), dots * 0.0, HALF)",
        "published",
    ),
    "norm of the last columns": ("p_square += tl.sum(", "p_square = tl.sum(", "published"),
    "target's norm of the last columns": ("t_square += tl.sum(", "t_square = tl.sum(", "published"),
    "norms squared": ("norm = tl.sqrt(square)", "norm = square", "small"),
    "no floor": ("return tl.where(norm < NORM_FLOOR, NORM_FLOOR, norm)", "return norm", "zero vectors"),
    "NaN taken for the floor": (
        "return tl.where(norm < NORM_FLOOR, NORM_FLOOR, norm)",
        "return tl.where(norm > NORM_FLOOR, norm, NORM_FLOOR)",
        "NaN",
    ),
    "target's norms lost": ("dots * p_scale[:, None] * t_scale[None, :]", "dots * p_scale[:, None]", "small"),
    "all regions agree": ("tl.where(real & same, cosine, 0.0)", "tl.where(real, cosine, 0.0)", "small"),
    "same regions are apart": (
        "tl.where(real & (q[:, None] != q[None, :]), cosine * cosine, 0.0)",
        "tl.where(real, cosine * cosine, 0.0)",
        "small",
    ),
    "cosines not squared": ("cosine * cosine, 0.0), axis=1)", "cosine, 0.0), axis=1)", "small"),
    "last images only": ("agree2 += tl.load(", "agree2 = tl.load(", "many images"),
    "others of the last images": ("others1 += tl.load(", "others1 = tl.load(", "many images"),
    "not a mean over regions": (
        "first_apart = tl.sum(others1, axis=0) * mean_apart",
        "first_apart = tl.sum(others1, axis=0) * mean",
        "small",
    ),
    "weight lost": (
        "(tl.sum(agree2, axis=0) * mean) + weight * second",
        "(tl.sum(agree2, axis=0) * mean) + second",
        "small",
    ),
    "one term twice": ("tl.store(both, first + second)", "tl.store(both, first + first)", "small"),
    "gradient of the first term for both": ("given = tl.load(d_two)", "given = tl.load(d_one)", "small"),
    "gradient of different regions lost": (
        "tl.where(q[:, None] == q[None, :], same, other * cosine)",
        "tl.where(q[:, None] == q[None, :], same, 0.0)",
        "small",
    ),
    "gradient not scaled by the target": ("slope * t_scale[None, :], target", "slope, target", "small"),
    "gradient along the vector": ("(gradient - radial[:, None] * prediction)", "gradient", "small"),
    "gradient of the floor": (
        "tl.where(p_scale > FLOORED, 0.0, tl.sum(slope * cosine, axis=1) * p_scale)",
        "tl.sum(slope * cosine, axis=1)",
        "small",
    ),
    "gradient not scaled": ("gradient = p_scale[:, None] * (", "gradient = (", "small"),
    "gradient of the first columns": (
        "d = tl.program_id(2) * BD + tl.arange(0, BD)",
        "d = tl.arange(0, BD)",
        "published",
    ),
}
