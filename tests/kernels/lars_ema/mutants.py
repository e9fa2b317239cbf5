"""Ways to break the kernels: name -> (source as it is, broken source, the check that is expected to notice).

None reads or writes outside the tensors: the interpreter would crash rather than report.
"""

MUTANTS = {
    "tails are left out": ("end = min(start + CHUNK, tl.load(sizes + i))", "end = start", "dense"),
    "only whole chunks": (
        "aligned = tl.load(addresses + 4 * n + i).to(tl.int32)",
        "aligned = tl.load(addresses + 4 * n + i).to(tl.int32)\n    end = tl.where(end < start + CHUNK, start, end)",
        "dense",
    ),
    "first chunk only": (
        "start = (chunk - tl.load(first + i)) * CHUNK",
        "start = (chunk - tl.load(first + i)) * 0",
        "dense",
    ),
    "p's last block only": ("p_sum += x * x", "p_sum = x * x", "dense"),
    "g's last block only": ("g_sum += y * y", "g_sum = y * y", "dense"),
    "tails not in ‖p‖": ("p_total += tl.sum(x * x, axis=0)", "p_total += 0.0 * tl.sum(x * x, axis=0)", "dense"),
    "tails not in ‖g‖": ("g_total += tl.sum(y * y, axis=0)", "g_total += 0.0 * tl.sum(y * y, axis=0)", "dense"),
    "norms of the last chunks only": ("total += tl.load(partial + place", "total = tl.load(partial + place", "dense"),
    "‖p‖ for ‖g‖": ("tl.sqrt(sum_of(partial + columns,", "tl.sqrt(sum_of(partial,", "dense"),
    "gathered ‖p‖ for ‖g‖": ("sum_of(partial + columns, start, end", "sum_of(partial, start, end", "squares"),
    "no momentum": ("v = momentum * v + length", "v = v + length", "dense"),
    "decay not scaled": ("length * (g + decay * p)", "length * g + decay * p", "dense"),
    "decay lost": ("length * (g + decay * p)", "length * g", "dense"),
    "wrong way": ("return v, p - v", "return v, p + v", "dense"),
    "one decay for all": ("decay = tl.load(decays + i)", "decay = tl.load(decays)", "dense"),
    "all are adapted": ("high = tl.where(tl.load(adapted + i) != 0, high, low)", "high = high", "dense"),
    "decay not in the ratio": ("(g_norm + decay * p_norm + EPSILON)", "(g_norm + EPSILON)", "dense"),
    "no epsilon": ("(g_norm + decay * p_norm + EPSILON)", "(g_norm + decay * p_norm)", "tiny"),
    "no learning rate": ("length = lr * tl.where(", "length = tl.where(", "dense"),
    "weights of 0 stay": (
        "tl.where(p_norm > 0, trust * p_norm / (g_norm + decay * p_norm + EPSILON), 1.0)",
        "trust * p_norm / (g_norm + decay * p_norm + EPSILON)",
        "dense",
    ),
    "velocity not kept": ("tl.store(tl.multiple_of(v + place, 16), speed)", "speed = speed", "dense"),
    "velocity's tail not kept": ("tl.store(v + place, speed, mask=inside)", "speed = speed", "dense"),
    "target follows the old weights": (
        "tl.store(tl.multiple_of(t + place, 16), behind + pace * (new - behind))",
        "tl.store(tl.multiple_of(t + place, 16), behind + pace * (old - behind))",
        "dense",
    ),
    "target's tail follows the old weights": (
        "tl.store(t + place, behind + pace * (new - behind), mask=inside)",
        "tl.store(t + place, behind + pace * (old - behind), mask=inside)",
        "dense",
    ),
    "guard forgets full blocks": (
        "        edge = tl.where(held, start, edge)\n        end = tl.where(held, start, end)\n    decay",
        "        end = tl.where(held, start, end)\n    decay",
        "found_inf",
    ),
    "guard forgets tails": (
        "        edge = tl.where(held, start, edge)\n        end = tl.where(held, start, end)\n    decay",
        "        edge = tl.where(held, start, edge)\n    decay",
        "found_inf",
    ),
    "guard is upside down": (
        "held = tl.load(found_inf) != 0\n        edge = tl.where(held, start, edge)\n"
        "        end = tl.where(held, start, end)\n    decay",
        "held = tl.load(found_inf) == 0\n        edge = tl.where(held, start, edge)\n"
        "        end = tl.where(held, start, end)\n    decay",
        "found_inf",
    ),
    "the EMA alone has no guard": (
        "        edge = tl.where(held, start, edge)\n        end = tl.where(held, start, end)\n    t =",
        "    t =",
        "found_inf",
    ),
    "the EMA alone is a copy": (
        "tl.store(tl.multiple_of(t + place, 16), behind + pace * (ahead - behind))",
        "tl.store(tl.multiple_of(t + place, 16), ahead)",
        "follow",
    ),
    "the EMA's tail alone is a copy": (
        "tl.store(t + place, behind + pace * (ahead - behind), mask=place < end)",
        "tl.store(t + place, ahead, mask=place < end)",
        "follow",
    ),
}
