#!/usr/bin/env bash
# hypothesis 6.170.15, pytest 9.2.0
# Expected: Hypothesis tries new examples in every run; that is why it runs in continuous integration.
# Seen: where the variable CI is set, each run tries the very same examples and nothing is stored: a green night says
#   nothing that the first did not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" hypothesis==6.170.15 pytest==9.2.0
cd "$work"
cat > test_examples.py <<'PY'
from hypothesis import given, strategies as st
seen = []
@given(st.integers(0, 10**9))
def test_one(x):
    seen.append(x)
def test_print():
    print("SEEN", *seen)
PY
examples() { env/bin/python -m pytest -q -s -p no:cacheprovider test_examples.py | grep SEEN; rm -rf .hypothesis; }
for variable in $(env | cut -d= -f1 | grep -E '^(CI|TF_BUILD|.*_CI|.*BUILDKITE.*|GITHUB_ACTIONS|.*TEAMCITY.*)$' || true); do unset "$variable"; done
free_1=$(examples); free_2=$(examples); ci_1=$(CI=true examples); ci_2=$(CI=true examples)
echo "two runs alike: without CI $([ "$free_1" = "$free_2" ] && echo yes || echo no), with CI=true $([ "$ci_1" = "$ci_2" ] && echo yes || echo no)"
[ "$free_1" != "$free_2" ] && [ "$ci_1" = "$ci_2" ]
