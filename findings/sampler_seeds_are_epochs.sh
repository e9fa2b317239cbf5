#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: DistributedSampler(seed=0) and (seed=1) give unrelated orders, so that repeats of a run over seeds see
#   other data.
# Seen: the generator is seeded with seed + epoch: epoch 1 of seed 0 is epoch 0 of seed 1, and runs of 100 epochs with
#   neighbouring seeds share 99 of their orders.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
from torch.utils.data import DistributedSampler

def order(seed, epoch):
    sampler = DistributedSampler(range(1000), num_replicas=1, rank=0, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)

shared = sum(order(0, epoch + 1) == order(1, epoch) for epoch in range(10))
print("of 10 epochs of seed 1,", shared, "are those of seed 0 one epoch on")
if shared != 10:
    sys.exit("changed")
PY
env/bin/python check.py
