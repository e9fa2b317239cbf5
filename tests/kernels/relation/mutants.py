"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice)."""

MUTANTS = {
    "images lost": ("view * N * Q + (n // P * Q)[None, :] * P", "view * N * Q + (n * 0)[None, :] * P", "7x7"),
    "first view only": ("return view * N * Q + (n //", "return 0 * N * Q + (n //", "7x7"),
    "padded regions share the softmax": (
        'logits = tl.where((q < Q)[:, None], x * scale + bias[:, None], float("-inf"))',
        "logits = x * scale + bias[:, None]",
        "one pixel",
    ),
    "softmax without its maximum": (
        "logits = logits - tl.max(logits, axis=0)[None, :]",
        "logits = logits - 0.0",
        "far region",
    ),
    "padded pixels have mass": (
        'share = tl.where((n < N)[None, :], log_share(t, scale, b, q, Q), float("-inf"))',
        "share = log_share(t, scale, b, q, Q)",
        "7x7",
    ),
    "mass not carried to a new maximum": ("total = total * tl.exp(top - higher) +", "total = total +", "few splits"),
    "mass of the last tile only": ("total = total * tl.exp(top - higher) +", "total =", "few splits"),
    "parts as if they had one maximum": ("total * tl.exp(top - highest[None, :]), 0.0)", "total, 0.0)", "few splits"),
    "mass in fp32": (
        "whole.to(tl.float64) * tl.exp(highest.to(tl.float64)) / N",
        "(whole * tl.exp(highest)).to(tl.float64) / N",
        "far region",
    ),
    "bias of the first view": (
        "b = tl.load(bias + view * Q + q, mask=q < Q, other=0.0)\n    top",
        "b = tl.load(bias + q, mask=q < Q, other=0.0)\n    top",
        "7x7",
    ),
    "bias started again": ("tl.load(bias + place, mask=inside, other=0.0) - tl.log", "0.0 - tl.log", "7x7"),
    "NaN taken for no mass": ("m = tl.where(m < 1e-300, 1e-300, m)", "m = tl.where(m > 1e-300, m, 1e-300)", "NaN"),
    "targets not balanced": (
        "target = tl.exp(log_share(t, teacher_scale, b, q, Q))\n        entropy",
        "target = tl.exp(log_share(t, teacher_scale, b * 0.0, q, Q))\n        entropy",
        "7x7",
    ),
    "padded pixels in the entropy": (
        "tl.sum(tl.where(inside, target * share, 0.0), axis=0)",
        "tl.sum(tl.where((q < Q)[:, None], target * share, 0.0), axis=0)",
        "7x7",
    ),
    "entropy of the last tile only": ("entropy -= tl.sum(", "entropy = -tl.sum(", "few splits"),
    "padded pixels in the mean": (
        "total += tl.sum(tl.where(inside, tl.exp(share), 0.0), axis=1)",
        "total += tl.sum(tl.exp(share), axis=1)",
        "7x7",
    ),
    "NaN is no first place": ('tl.where(s == s, s, float("inf"))', "s", "NaN"),
    "last of the largest": (
        "best = tl.min(tl.where(s == tl.max(s, axis=0)[None, :], q[:, None], QP), axis=0)",
        "best = tl.max(tl.where(s == tl.max(s, axis=0)[None, :], q[:, None], -1), axis=0)",
        "ties",
    ),
    "first places of the last tile only": ("first += tl.sum(", "first = tl.sum(", "few splits"),
    "gradient's targets not balanced": (
        "target = tl.exp(log_share(t, teacher_scale, b, q, Q))\n    level",
        "target = tl.exp(log_share(t, teacher_scale, b * 0.0, q, Q))\n    level",
        "7x7",
    ),
    "gradient not centred": ("(tilt[:, None] - level[None, :])", "tilt[:, None]", "7x7"),
    "gap's gradient of the first view": ("tl.load(slope + view * Q + q", "tl.load(slope + q", "7x7"),
    "entropy's gradient of the first view": ("tl.load(d_entropy + view)", "tl.load(d_entropy)", "7x7"),
    "gradient not scaled": ("(whole * factor)", "(whole)", "7x7"),
}
