#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: for a scalar, backward(torch.ones(())) is backward() written out, and neither loads anything.
# Seen: the gradients are the same, but the first backward that is given a gradient imports sympy (in all, hundreds of
#   modules that torch does without until then); backward() imports none of it. autograd.grad with grad_outputs does too.
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

weight = torch.tensor([3.0, 4.0], requires_grad=True)
ways = {
    "backward()": lambda loss: loss.backward(),
    "backward(gradient)": lambda loss: loss.backward(torch.ones(())),
    "grad(grad_outputs)": lambda loss: torch.autograd.grad(loss, weight, torch.ones(())),
}
before = len(sys.modules)
ways[sys.argv[1]](weight.square().sum())
loaded = "sympy" in sys.modules
print(f"{sys.argv[1]}: sympy imported {loaded}, modules more {'hundreds' if len(sys.modules) - before > 200 else 'few'}")
sys.exit(loaded != (sys.argv[2] == "yes"))
PY
env/bin/python check.py "backward()" no
env/bin/python check.py "backward(gradient)" yes
env/bin/python check.py "grad(grad_outputs)" yes
