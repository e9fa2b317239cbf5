#!/usr/bin/env bash
# s3fs 2026.9.0, fsspec 2026.9.0, aiobotocore 3.10.0, boto3 1.43.117, moto 5.2.5
# Expected: an exception inside `with fs.open(key, 'wb')` gives the upload up: an object is stored whole or not at
#   all.
# Seen: leaving the block by an exception uploads what was written so far, over the good object that was there. Only a
#   transaction gives it up.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" s3fs==2026.9.0 fsspec==2026.9.0 aiobotocore==3.10.0 boto3==1.43.117 'moto[server]==5.2.5'
cd "$work"
cat > check.py <<'PY'
import logging
import os
import sys

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
import boto3
import fsspec
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
address = "http://%s:%s" % server.get_host_and_port()
client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
client.create_bucket(Bucket="faces")
store = fsspec.filesystem("s3", endpoint_url=address, client_kwargs={"region_name": "us-east-1"})

def fail_half_way(key):
    try:
        with store.open(key, "wb") as file:
            file.write(b"half")
            raise RuntimeError("the source ended early")
    except RuntimeError:
        pass

store.pipe("faces/checkpoint", b"complete")
fail_half_way("faces/checkpoint")
left = store.cat("faces/checkpoint")
with store.transaction:
    fail_half_way("faces/other")
print("object after the failed write:", left)
server.stop()
if left != b"half":
    sys.exit("changed")
PY
env/bin/python check.py
