#!/usr/bin/env bash
# ray[default] 2.60.0
# Expected: a stopped job has the half minute that SLURM, Kubernetes and torchrun give between SIGTERM and SIGKILL to
#   write its checkpoint.
# Seen: ray job stop sends SIGTERM and kills after 3 seconds (RAY_JOB_STOP_WAIT_TIME_S in the job's runtime
#   environment sets it); the job ends as STOPPED whether it had finished or not.
set -euo pipefail
work=$(mktemp -d)
export PATH="$work/env/bin:$PATH"
trap 'ray stop --force --grace-period 1 >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" 'ray[default]==2.60.0'
cd "$work"
cat > driver.py <<'PY'
import signal, sys, time
def ask(*_):
    begin = time.time()
    while True:
        print("ALIVE %.1f" % (time.time() - begin), flush=True)
        time.sleep(0.25)
signal.signal(signal.SIGTERM, ask)
print("STARTED", flush=True)
while True:
    time.sleep(0.1)
PY
free() { env/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
board=$(free)
export RAY_USAGE_STATS_ENABLED=0 RAY_raylet_start_wait_time_s=180 RAY_API_SERVER_ADDRESS="http://127.0.0.1:$board"
ray start --head --port="$(free)" --num-cpus=1 --dashboard-port="$board" --temp-dir="$work/r" >start.log 2>&1
ray job submit --submission-id stopme --no-wait -- "$work/env/bin/python" "$work/driver.py" >submit.log 2>&1
until ray job logs stopme 2>/dev/null | grep -q STARTED; do sleep 1; done
ray job stop stopme >stop.log 2>&1
sleep 5
last=$(ray job logs stopme 2>/dev/null | sed -n 's/^ALIVE //p' | tail -1)
echo "last sign of life ${last:-none} s after SIGTERM"
awk -v last="${last:-0}" 'BEGIN { exit !(last >= 1.5 && last <= 5) }'
