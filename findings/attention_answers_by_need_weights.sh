#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: need_weights says whether attention weights are returned as well; the output is the same.
# Seen: a sample whose keys are all masked gives zeros (plus the output bias) with need_weights=False and NaN with
#   need_weights=True, which is the default; so looking at the weights of a model that trains well can show NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import torch

torch.manual_seed(0)
attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
tokens, masked = torch.randn(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)
masked[1] = True
seen = {}
for asked in (False, True):
    output, _ = attention(tokens, tokens, tokens, key_padding_mask=masked, need_weights=asked)
    seen[asked] = [bool(output[i].isnan().any()) for i in range(2)]
    print("need_weights", asked, "NaN by sample", seen[asked])
if seen != {False: [False, False], True: [False, True]}:
    sys.exit("changed")
PY
env/bin/python check.py
