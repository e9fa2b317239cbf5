#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: torchrun ends as its workers do: with 75 where they left with 75 (try again later), with 0 where all
#   finished well after a SIGTERM.
# Seen: it ends with 1 in both cases: a worker's own status is in the log only, and a clean stop looks like a failure
#   to the scheduler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5
cd "$work"
cat > worker.py <<'PY'
import os, signal, sys, time
if sys.argv[1] == "later":
    sys.exit(75)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(f"ready.{os.environ['RANK']}", "w").close()
while True:
    time.sleep(0.1)
PY
launch() { exec env/bin/python -m torch.distributed.run --standalone --nproc-per-node=2 worker.py "$1"; }
later=0; (launch later) 2>log.later || later=$?
(launch stop) 2>log.stop & launcher=$!
until [ -e ready.0 ] && [ -e ready.1 ]; do sleep 0.2; done
kill -TERM "$launcher"
stopped=0; wait "$launcher" || stopped=$?
echo "workers leave with 75: torchrun $later; workers finish with 0 on SIGTERM: torchrun $stopped"
grep -q "exitcode *: 75" log.later
[ "$later" = 1 ] && [ "$stopped" = 1 ]
