"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "rows against columns": ("down, along = row - y, column - x", "down, along = row - x, column - y", "5x13, planar"),
    "a column's distance lost": ("(down * down + along * along)", "(down * down)", "5x13, planar"),
    "targets not normalised": ("* sharpness - level", "* sharpness", "5x13, planar"),
    "level of the columns lost": (
        " + tl.load(column_levels + j, mask=known, other=0.0)",
        "",
        "5x13, planar",
    ),
    "first image everywhere": ("place = images + image * HW * D", "place = images + 0 * image * D", "7x7"),
    "largest logit of the last block only": (
        "tl.maximum(before, tl.max(logits, axis=1))",
        "tl.max(logits, axis=1)",
        "sharp",
    ),
    "sums not moved to the new largest": ("total * tl.exp(before - largest)", "total", "sharp"),
    "padded pixels in the sum": (
        'logits = tl.where(inside, logits, float("-inf"))',
        "logits = logits + 0.0",
        "small",
    ),
    "padded pixels in the target": (
        "tl.where(inside, tl.exp(target) * (target - logits), 0.0)",
        "tl.exp(target) * (target - logits)",
        "far outside",
    ),
    "entropy of the target lost": ("tl.exp(target) * (target - logits)", "tl.exp(target) * (0.0 - logits)", "small"),
    "target of the last block only": ("wanted += tl.sum(", "wanted = tl.sum(", "5x13, planar"),
    "no logarithm of the sum": ("whole = largest + tl.log(total)", "whole = largest", "small"),
    "sums stored in the result's place": (
        "tl.store(found + image * HW + u, wanted + whole",
        "tl.store(found + image * HW + u, wanted",
        "small",
    ),
    "gradient of queries without target": (
        "apart = tl.exp(logits - whole[:, None]) - tl.exp(target)",
        "apart = tl.exp(logits - whole[:, None])",
        "small",
    ),
    "gradient of keys without target": (
        "apart = tl.exp(logits - whole[None, :]) - tl.exp(target)",
        "apart = tl.exp(logits - whole[None, :])",
        "small",
    ),
    "given gradient lost for queries": ("apart * weight[:, None]", "apart * scale", "small"),
    "given gradient lost for keys": ("apart * weight[None, :]", "apart * scale", "small"),
    "keys of the last block only": ("HW, D), d_q, HALF)", "HW, D), 0.0 * d_q, HALF)", "5x13, planar"),
    "queries of the last block only": ("HW, D), d_k, HALF)", "HW, D), 0.0 * d_k, HALF)", "5x13, planar"),
    "products of the last columns only": (
        "tl.trans(other_rows), total, HALF)",
        "tl.trans(other_rows), 0.0 * total, HALF)",
        "7x7",
    ),
}
