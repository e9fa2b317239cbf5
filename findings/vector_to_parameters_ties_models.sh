#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: vector_to_parameters writes the numbers of the vector into the weights.
# Seen: the weights become windows onto the vector: two models filled from one vector are one set of weights from then
#   on, and training one trains the other.
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
from torch.nn.utils import vector_to_parameters

student, teacher = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
vector = torch.zeros(6)
vector_to_parameters(vector, student.parameters())
vector_to_parameters(vector, teacher.parameters())
with torch.no_grad():
    student.weight.add_(1.0)
print("the student's weight changed by 1; the teacher's is now", teacher.weight.tolist())
if not (teacher.weight == 1).all():
    sys.exit("changed")
PY
env/bin/python check.py
