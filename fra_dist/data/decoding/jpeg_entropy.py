"""Walks the entropy-coded data of a JPEG scan, without decoding a pixel, to see whether it ends where its picture ends.

Compiled by numba. Every code of a Huffman scan is read (ITU-T T.81, annexes F and G), so it is seen when data run out,
continue after the last block, hold a code that no table has, or place a coefficient outside its block. A flipped bit
that changes a value but no length cannot be seen.
"""

import numpy as np

from fra_dist.data.decoding.jpeg_stuffing import compiled

OK, SHORT, BAD_CODE, EXTRA, RESTARTS = 0, 1, 2, 3, 4
"""What `walk_scan` finds: all in order, data that end too early, an impossible code, data behind the last block,
restart markers that are not those that the header announces."""
SEQUENTIAL, DC_FIRST, DC_REFINE, AC_FIRST, AC_REFINE = 0, 1, 2, 3, 4
"""Kinds of scans."""
ROW = 512 + 18 + 18 + 256
"""Length of the array of one Huffman table: look-up by 9 bits, largest code and offset of each length, values."""

_MAX, _OFFSET, _VALUES = 512, 530, 548
_SPARE = 2  # bytes that encoders leave behind a whole scan
_DC_LIMIT = 2048  # twice what a block of 8-bit samples can have


@compiled
def build_table(counts, values, row):  # type: ignore[no-untyped-def]
    """Fill a row (ROW,) int32 from the 16 counts and the values of a DHT segment; False when these make no code."""
    row[:] = 0
    code, at = 0, 0
    for length in range(1, 17):
        row[_OFFSET + length] = at - code
        for _ in range(counts[length - 1]):
            if code >= 1 << length or at >= values.size:
                return False
            row[_VALUES + at] = values[at]
            if length <= 9:
                first = code << (9 - length)
                for place in range(first, first + (1 << (9 - length))):
                    row[place] = length << 8 | values[at]
            code += 1
            at += 1
        row[_MAX + length] = code - 1 if counts[length - 1] else -1
        code <<= 1
    return True


@compiled
def _peek(out, pos):  # type: ignore[no-untyped-def]
    """The next 16 bits."""
    i = pos >> 3
    three = np.int64(out[i]) << 16 | np.int64(out[i + 1]) << 8 | np.int64(out[i + 2])
    return (three >> (8 - (pos & 7))) & 0xFFFF


@compiled
def _code(row, bits):  # type: ignore[no-untyped-def]
    """length << 8 | value of the code that 16 bits begin with; -1 when there is none."""
    entry = row[bits >> 7]
    if entry:
        return entry
    for length in range(10, 17):
        code = bits >> (16 - length)
        if row[_MAX + length] >= 0 and code <= row[_MAX + length]:
            return length << 8 | row[_VALUES + row[_OFFSET + length] + code]
    return -1


@compiled
def _dc(out, pos, row, state, comp, low, quant):  # type: ignore[no-untyped-def]
    """Position behind a DC difference, or -1."""
    entry = _code(row, _peek(out, pos))
    size = entry & 0xFF
    if entry < 0 or size > 12:
        return -1
    pos += entry >> 8
    if size:
        bits = _peek(out, pos) >> (16 - size)
        state[comp] += bits if bits >> (size - 1) else bits - (1 << size) + 1
        if (abs(state[comp]) << low) * quant > _DC_LIMIT + quant:
            return -1
    return pos + size


@compiled
def _ac(out, pos, row):  # type: ignore[no-untyped-def]
    """Position behind the 63 other coefficients of a sequential block, or -1."""
    k = 1
    while k < 64:
        entry = _code(row, _peek(out, pos))
        if entry < 0:
            return -1
        pos += entry >> 8
        run, size = (entry >> 4) & 15, entry & 15
        if size == 0:
            if run < 15:
                return pos
            k += 16
            continue
        k += run + 1
        if k > 64 or size > 11:
            return -1
        pos += size
    return pos


@compiled
def _ac_first(out, pos, row, span, state, masks, block):  # type: ignore[no-untyped-def]
    """Position behind the first pass over a band of one block, or -1; state[4] is the run of empty blocks."""
    if state[4] > 0:
        state[4] -= 1
        return pos
    k = span[0]
    while k <= span[1]:
        entry = _code(row, _peek(out, pos))
        if entry < 0:
            return -1
        pos += entry >> 8
        run, size = (entry >> 4) & 15, entry & 15
        if size:
            k += run
            if k > span[1] or size > 11:
                return -1
            masks[block] |= np.uint64(1) << np.uint64(k)
            pos += size
            k += 1
        elif run == 15:
            k += 16
        else:
            state[4] = (1 << run) - 1 + (_peek(out, pos) >> (16 - run) if run else 0)
            return pos + run
    return pos


@compiled
def _ac_refine(out, pos, row, span, state, masks, block):  # type: ignore[no-untyped-def]
    """Position behind a later pass over a band of one block, or -1: coefficients that are known have a bit each."""
    k, mask, one = span[0], masks[block], np.uint64(1)
    if state[4] == 0:
        while k <= span[1]:
            entry = _code(row, _peek(out, pos))
            if entry < 0:
                return -1
            pos += entry >> 8
            run, size = (entry >> 4) & 15, entry & 15
            if size > 1:
                return -1
            if size == 0 and run < 15:
                state[4] = (1 << run) + (_peek(out, pos) >> (16 - run) if run else 0)
                pos += run
                break
            pos += size
            while k <= span[1]:
                if mask >> np.uint64(k) & one:
                    pos += 1
                else:
                    run -= 1
                    if run < 0:
                        break
                k += 1
            if size:
                if k > span[1]:
                    return -1
                masks[block] |= one << np.uint64(k)
            k += 1
    if state[4] > 0:
        while k <= span[1]:
            pos += np.int64(mask >> np.uint64(k) & one)
            k += 1
        state[4] -= 1
    return pos


@compiled
def _block(out, pos, kind, comp, parts, tables, span, state, masks, block):  # type: ignore[no-untyped-def]
    """parts[comp]: DC table, AC table, and step of the DC coefficient."""
    if kind == AC_FIRST:
        return _ac_first(out, pos, tables[4 + parts[comp, 1]], span, state, masks, block)
    if kind == AC_REFINE:
        return _ac_refine(out, pos, tables[4 + parts[comp, 1]], span, state, masks, block)
    if kind == DC_REFINE:
        return pos + 1
    pos = _dc(out, pos, tables[parts[comp, 0]], state, comp, span[2], parts[comp, 2])
    return _ac(out, pos, tables[4 + parts[comp, 1]]) if kind == SEQUENTIAL and pos >= 0 else pos


@compiled
def _rest(out, pos, end, last_open):  # type: ignore[no-untyped-def]
    """What lies between bit `pos` and byte `end` of a part: OK for filling bits and a few bytes that encoders leave.

    last_open: no marker follows, so that anything may.
    """
    if pos > end * 8:
        return SHORT
    first = (pos + 7) >> 3
    pad = 8 * first - pos
    bits = out[pos >> 3] & ((1 << pad) - 1) if pad else 0
    even = bits == 0 or bits == (1 << pad) - 1
    spare = True
    for i in range(first, end):
        spare = spare and (out[i] == 0 or out[i] == 0xFF)
    if spare or (even and (last_open or end - first <= _SPARE)):
        return OK
    return EXTRA


@compiled
def walk_scan(out, ends, numbers, kind, parts, layout, restart, total, tables, span, masks, last_open):  # type: ignore[no-untyped-def]
    """Walk all blocks of a scan: (what was found, bit after the last block).

    ends, numbers: as `unstuff` gives them; parts: a row per component with DC table, AC table and step of the DC
    coefficient; layout: the component of each block of an MCU; restart: MCUs between restart markers, 0 for none;
    total: MCUs; span: first and last coefficient, and the bit that comes last; last_open: no marker follows the data.
    """
    state = np.zeros(5, np.int64)
    pos, done = np.int64(0), 0
    for part in range(ends.size):
        state[:] = 0
        here = min(restart, total - done) if restart else total - done
        if here <= 0:  # some encoders write a last restart marker before the end
            return (OK if ends[part] - ends[part - 1] <= _SPARE else RESTARTS), pos
        pos = np.int64(ends[part - 1] * 8 if part else 0)
        for mcu in range(done, done + here):
            for comp in layout:
                pos = _block(out, pos, kind, comp, parts, tables, span, state, masks, mcu)
                if pos < 0:
                    return BAD_CODE, pos
            if pos > ends[part] * 8:
                return SHORT, pos
        done += here
        if state[4] > 0:
            return BAD_CODE, pos
        last = part == ends.size - 1
        found = _rest(out, pos, ends[part], last and last_open)
        if found != OK:
            return found, pos
        if not last and numbers[part] != part % 8:
            return RESTARTS, pos
    return (OK if done >= total else SHORT), pos
