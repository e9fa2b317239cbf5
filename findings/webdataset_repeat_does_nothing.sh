#!/usr/bin/env bash
# webdataset 1.0.2, torch 2.11.0, numpy 2.3.5
# Expected: WebDataset(..., repeat=True) goes through its shards for ever, as its argument and .repeat() say.
# Seen: the argument is taken and changes nothing: the data set ends after one pass, with and without shuffled shards;
#   so a loop that counts on it stops early or, in a benchmark, times an empty loader. The method .repeat() does repeat.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" webdataset==1.0.2 torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import itertools
import sys
import webdataset

for shard in range(2):
    with webdataset.TarWriter(f"{shard}.tar", encoder=False) as tar:
        for number in range(3):
            tar.write({"__key__": f"{shard}-{number}", "txt": b"x"})


def first_of(samples):
    return len(list(itertools.islice(iter(samples), 20)))


shards = ["0.tar", "1.tar"]
seen = {
    (repeat, shuffle): first_of(webdataset.WebDataset(shards, repeat=repeat, shardshuffle=shuffle))
    for repeat in (False, True)
    for shuffle in (False, 10)
}
seen["method"] = first_of(webdataset.WebDataset(shards, shardshuffle=False).repeat())
for how, count in seen.items():
    print(how, "samples of the first 20:", count)
if list(seen.values()) != [6, 6, 6, 6, 20]:
    sys.exit("changed")
PY
env/bin/python check.py
