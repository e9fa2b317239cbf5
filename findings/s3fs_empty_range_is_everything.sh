#!/usr/bin/env bash
# s3fs 2026.9.0, fsspec 2026.9.0, aiobotocore 3.10.0, boto3 1.43.117, moto 5.2.5
# Expected: cat_file(key, start=5, end=5) is empty, as on a local disk and in memory.
# Seen: s3fs asks for bytes 5 to 4, which a store reads as no range at all: the whole object comes back. A reader of
#   members by offset and length gets the archive where a member has no bytes.
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

store.pipe("faces/a", b"0123456789")
memory = fsspec.filesystem("memory")
memory.pipe("/a", b"0123456789")
empty, whole = memory.cat_file("/a", start=5, end=5), store.cat_file("faces/a", start=5, end=5)
print("memory", empty, " s3fs", whole)
server.stop()
if (empty, whole) != (b"", b"0123456789"):
    sys.exit("changed")
PY
env/bin/python check.py
