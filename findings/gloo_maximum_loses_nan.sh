#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: all_reduce(MAX) gives NaN wherever one rank has a NaN, as torch.maximum does, or drops NaN everywhere.
# Seen: with two ranks and one value the result is NaN when rank 0 has it and a plain number when rank 1 has it; in a
#   tensor of 1,000 NaNs against 1,000 numbers half of the places are NaN, whichever rank had them. A verdict 'is any
#   rank not finite' by MAX of the loss itself misses a half.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import os
import sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

def work(rank, store, seen):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for bad in range(2):
        for size in (1, 1000):
            value = torch.full((size,), float("nan") if rank == bad else 1.0)
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
            seen[rank, bad, size] = int(value.isnan().sum())
    dist.destroy_process_group()

if __name__ == "__main__":
    with mp.Manager() as manager:
        seen = manager.dict()
        mp.spawn(work, (os.path.abspath("store"), seen), 2)
        counts = dict(seen)
    for bad in range(2):
        print(f"NaN on rank {bad}: NaNs of 1 value {counts[0, bad, 1]}, of 1,000 values {counts[0, bad, 1000]}")
    cases = [(rank, bad, size) for rank in range(2) for bad in range(2) for size in (1, 1000)]
    expected = {case: 500 if case[2] == 1000 else 1 - case[1] for case in cases}
    if counts != expected:
        sys.exit(f"changed: {counts}")
PY
env/bin/python check.py
