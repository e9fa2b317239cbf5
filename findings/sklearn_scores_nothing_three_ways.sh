#!/usr/bin/env bash
# scikit-learn 1.9.1, numpy 2.3.5
# Expected: where an attribute has no positive in the subset, the scores agree that there is nothing to score: all
#   NaN, or all refuse.
# Seen: ROC AUC is NaN, average precision and F1 are 0.0 (with a warning): a mean over attributes by the first is NaN,
#   by the others a plausible number that is too low.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" scikit-learn==1.9.1 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import warnings
import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

warnings.simplefilter("ignore")
truth = np.array([[0, 0], [0, 1], [0, 0], [0, 1]])
score = np.array([[0.1, 0.2], [0.4, 0.8], [0.3, 0.1], [0.9, 0.7]])
auc = roc_auc_score(truth, score, average=None).tolist()
precision = average_precision_score(truth, score, average=None).tolist()
f1 = f1_score(truth, score > 0.5, average=None).tolist()
means = [average(truth, s, average="macro") for average, s in ((roc_auc_score, score), (average_precision_score, score), (f1_score, score > 0.5))]
print("AUC", auc, "average precision", precision, "F1", f1, "means", means)
if not (np.isnan(auc[0]) and auc[1] == 1 and precision == [0.0, 1.0] and f1 == [0.0, 1.0] and np.isnan(means[0]) and means[1:] == [0.5, 0.5]):
    sys.exit("changed")
PY
env/bin/python check.py
