"""`fra-dist doctor` as a process."""

import json

import pytest


def test_quick_screen_and_json(fra_dist, tmp_path):
    done = fra_dist("doctor", "--quick", GLOO_SOCKET_IFNAME="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run folder" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("14 checks, ")
    bad = fra_dist("doctor", "--quick", "--json", GLOO_SOCKET_IFNAME="ib9")
    rows = json.loads(bad.stdout)
    assert bad.returncode == 1
    assert rows["verdict"] == "fail"
    assert next(one for one in rows["checks"] if one["name"] == "interfaces")["remedy"]
    assert fra_dist("doctor", "no_such.yaml").returncode == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whole_screen_with_a_configuration(fra_dist, shards, tmp_path):
    done = fra_dist("doctor", "debug_cpu", f"data.shards={shards}", "--json", timeout=500)
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, checks
    assert "48 photos" in checks["shards"]["text"]
    assert "2 ranks over gloo" in checks["collectives"]["text"]
    assert "took a step" in checks["step"]["text"]
    assert "JPEG decoded" in checks["DALI"]["text"]
