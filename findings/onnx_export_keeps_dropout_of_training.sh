#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0
# Expected: torch.onnx.export makes an inference net whatever mode the module is in (as its default was for years), or
#   warns.
# Seen: a module left in training mode is exported with BatchNorm as in inference, folded away, and Dropout as in
#   training: the file answers otherwise each time it is asked.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$work"
cat > check.py <<'PY'
import contextlib
import io
import sys
import numpy as np
import onnx
import onnxruntime
import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5)).train()
picture = torch.randn(2, 3, 8, 8)
with contextlib.redirect_stdout(io.StringIO()):
    torch.onnx.export(net, (picture,), "net.onnx", verbose=False)
kinds = [node.op_type for node in onnx.load("net.onnx").graph.node]
session = onnxruntime.InferenceSession("net.onnx")
feed = {session.get_inputs()[0].name: picture.numpy()}
same = np.array_equal(session.run(None, feed)[0], session.run(None, feed)[0])
print("nodes", kinds, "two runs agree:", same)
if kinds != ["Conv", "Dropout"] or same:
    sys.exit("changed")
PY
env/bin/python check.py
