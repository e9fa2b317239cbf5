#!/usr/bin/env bash
# s3fs 2026.9.0, fsspec 2026.9.0, aiobotocore 3.10.0, boto3 1.43.117, moto 5.2.5
# Expected: an object that another machine has just written can be read by its name: the store has been consistent for
#   years.
# Seen: after one ls of the folder, exists() says no and cat(), cat_file() and open() raise FileNotFoundError for the
#   new object, without asking the store, in every file system object of the process with these settings; only find()
#   shows it.
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

client.put_object(Bucket="faces", Key="run/0.tar", Body=b"0")
store.ls("faces/run")
client.put_object(Bucket="faces", Key="run/1.tar", Body=b"1")
again = fsspec.filesystem("s3", endpoint_url=address, client_kwargs={"region_name": "us-east-1"})

def answer(function):
    try:
        return function("faces/run/1.tar")
    except FileNotFoundError:
        return "FileNotFoundError"

seen = {"exists": answer(again.exists), "cat": answer(again.cat), "cat_file": answer(again.cat_file),
        "open": answer(lambda key: again.open(key).read()), "find": "faces/run/1.tar" in again.find("faces/run")}
print(seen)
server.stop()
if seen != {"exists": False, "cat": "FileNotFoundError", "cat_file": "FileNotFoundError", "open": "FileNotFoundError", "find": True}:
    sys.exit("changed")
PY
env/bin/python check.py
