#!/usr/bin/env bash
# submitit 1.5.4
# Expected: SIGTERM ends a job of submitit, or interrupts its function: that is what schedulers send first.
# Seen: submitit takes SIGTERM itself and passes over it (one line in the log): the function goes on to its end and
#   the result is that of a job that nobody stopped. Only SIGKILL ends it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" submitit==1.5.4
cd "$work"
cat > check.py <<'PY'
import os
import signal
import sys
import time
import submitit

def work(mark):
    open(mark, "w").write(str(os.getpid()))
    time.sleep(5)
    return "to the end"

if __name__ == "__main__":
    executor = submitit.AutoExecutor("jobs", cluster="local")
    executor.update_parameters(timeout_min=2)
    mark = os.path.abspath("pid")
    job = executor.submit(work, mark)
    while not os.path.exists(mark) or not open(mark).read():
        time.sleep(0.1)
    os.kill(int(open(mark).read()), signal.SIGTERM)
    result = job.result()
    print("after SIGTERM:", result, "and the log says:", job.stderr().strip().splitlines()[-1][-24:])
    if result != "to the end" or "Bypassing signal SIGTERM" not in job.stderr():
        sys.exit("changed")
PY
env/bin/python check.py
