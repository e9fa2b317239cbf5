"""Ways to break the kernel: name -> (source as it is, broken source, the check that is expected to notice)."""

MUTANTS = {
    "one call for all views": ("call + (row // B) * span", "call + row * 0", "two views"),
    "calls not cut to 62 bits": (" & 0x3FFFFFFFFFFFFFFF", "", "a late call"),
    "keys of other images": ("keys + row % B", "keys + (row + 1) % B", "small"),
    "every block the first": ("(tl.program_id(0) % blocks) * BLOCK + tl.arange", "tl.arange", "several blocks"),
    "a shift too few": ("x ^ (x >> 31)", "x ^ (x >> 30)", "small"),
    "dropped and kept exchanged": (".to(tl.int64) >= threshold", ".to(tl.int64) < threshold", "small"),
}
