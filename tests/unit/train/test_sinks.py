"""Where rows of metrics go: each sink read back as its own tools read it."""

import csv
import json
import socket
import time
import urllib.request
from importlib.util import find_spec

import pytest

from fra_dist.config import load_config
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.sinks import mlflow_run
from fra_dist.train.sinks.csv_file import CsvFile
from fra_dist.train.sinks.opening import flat, open_sinks
from fra_dist.train.sinks.prometheus import Prometheus
from fra_dist.train.sinks.sink import Guarded

ROWS = [
    {"step": 1, "loss/total": 3.0, "images_per_second": 50.0, "memory_mib": 2.0},
    {"step": 2, "loss/total": None, "images_per_second": 60.0},
    {"step": 2, "probe/faces/expression/linear": 0.5},
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scraped(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_csv_has_a_line_a_step_and_columns_that_came_late(tmp_path):
    source = tmp_path / "metrics.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    CsvFile(source, tmp_path / "metrics.csv").close()
    table = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["step"] for row in table] == ["1", "2"]
    assert table[1]["probe/faces/expression/linear"] == "0.5"
    assert table[1]["loss/total"] == table[0]["probe/faces/expression/linear"] == ""


def test_csv_joins_the_rows_of_a_step_and_leaves_out_damaged_ones(tmp_path):
    source = tmp_path / "metrics.jsonl"
    source.write_text('{"step": 1, "a": 1}\n{"step": 1, "b": 2}\n{"a": 9}\n[3]\n{"step": "x"}\n{"step": 2, "a": 3}\n')
    CsvFile(source, tmp_path / "metrics.csv").close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1,2\n2,3,\n"


def test_prometheus_serves_the_newest_row_on_the_loopback_only():
    port = free_port()
    saved = [None]
    served = Prometheus(port, "127.0.0.1", 10, 2, lambda: saved[0])
    try:
        for row in ROWS:
            served.write(row["step"], row)
        found = scraped(port)
        assert found["fra_dist_step"] == 2
        assert found["fra_dist_total_steps"] == 10
        assert found["fra_dist_restarts"] == 2
        assert found["fra_dist_images_per_second"] == 60
        assert found["fra_dist_memory_bytes"] == 2 * 2**20
        assert found['fra_dist_loss{term="total"}'] == 3
        assert found['fra_dist_probe{score="faces/expression/linear"}'] == 0.5
        saved[0] = time.time() - 500
        assert 500 <= scraped(port)["fra_dist_checkpoint_age_seconds"] < 3000
        assert served._server.server_address[0] == "127.0.0.1"
        with pytest.raises(LaunchError, match=f"metrics_port={port} cannot be opened"):
            Prometheus(port, "127.0.0.1", 10, 0, lambda: None)
    finally:
        served.close()
    with pytest.raises(OSError, match=r"refused|reset"):
        scraped(port)


class Broken:
    def write(self, step, row):
        raise RuntimeError("no network")

    def close(self):
        raise RuntimeError("no network either")


def test_a_sink_that_fails_is_left_out_with_one_warning(capsys):
    sink = Guarded("W&B", Broken())
    for step in range(3):
        sink.write(step, {})
    sink.close()
    said = capsys.readouterr().err
    assert said.count("warning: W&B takes no more rows (RuntimeError: no network)") == 1
    assert len(said.splitlines()) == 1


def opened(tmp_path, *words):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    config = load_config(None, ["log.tensorboard=false", f"output={folder}", *words])
    return open_sinks(config, RunFolder(folder), 0, 10)


def test_wandb_offline_keeps_one_run_across_attempts(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    if find_spec("wandb") is None:
        with pytest.raises(ConfigError, match=r'pip install "fra-dist\[wandb\]"'):
            opened(tmp_path, "log.wandb=offline")
        return
    for _ in range(2):
        (sink,) = opened(tmp_path, "log.wandb=offline")
        sink.write(1, ROWS[0])
        sink.close()
        assert not sink.failed
    # offline-run-TIME-ID, and -1 behind it where both attempts began within one second.
    folders = [path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert len(folders) == 2
    assert len({name.split("-")[3] for name in folders}) == 1
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_mlflow_in_a_folder_keeps_one_run_across_attempts(tmp_path):
    store = tmp_path / "store"
    if find_spec("mlflow") is None:
        with pytest.raises(ConfigError, match=r'pip install "fra-dist\[mlflow\]"'):
            opened(tmp_path, f"log.mlflow={store}")
        return
    for step in (1, 2):
        (sink,) = opened(tmp_path, f"log.mlflow={store}")
        sink.write(step, {"step": step, "loss/total": 3.0 / step})
        sink.close()
        assert not sink.failed
    (metric,) = store.glob("*/*/metrics/loss/total")
    assert [line.split()[1:] for line in metric.read_text().splitlines()] == [["3.0", "1"], ["1.5", "2"]]


def test_mlflow_gets_the_login_of_its_server(tmp_path, monkeypatch):
    stores = []
    monkeypatch.setattr(mlflow_run, "MlflowRun", lambda folder, name, store, settings: stores.append((store, settings)))
    opened(tmp_path, "log.mlflow=https://me:s3cret@host/x")
    ((store, settings),) = stores
    assert store == "https://me:s3cret@host/x"
    assert settings["log.mlflow"] == "https://host/x"


def test_a_store_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"(?i)mlflow"):
        opened(tmp_path, f"log.mlflow={tmp_path / 'file' / 'store'}")


def test_leaves_by_their_dotted_names():
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a.b": 1, "a.c.d": None, "e": [1]}


def test_flop_are_counted_and_known_gpus_have_a_peak():
    from fra_dist.train.hooks.flop import peak_of

    assert peak_of("NVIDIA H100 PCIe") == 756e12
    assert peak_of("NVIDIA H100 80GB HBM3") == peak_of("NVIDIA H200") == 989e12
    assert peak_of("NVIDIA GeForce GTX 1060") is None


def test_a_run_with_everything(shards, tmp_path, capsys):
    from fra_dist.cli.main import main

    run, port = tmp_path / "run", free_port()
    words = ["pretrain", "debug_cpu", f"data.shards={shards}", f"output={run}", "train.backend=torch", "train.steps=8"]
    words += ["log.csv=true", "log.mfu=true", "--metrics-port", str(port), "--profile", "2", "log.heatmaps_every=4"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "trace of 2 steps" in said
    assert "Self CPU" in said
    assert json.loads((run / "profile" / "steps-4-5.json").read_text())["traceEvents"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["speed/tflops"] > 0 and "speed/mfu" not in row for row in rows)
    table = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in table] == [str(step) for step in range(1, 9)]
    assert list((run / "tensorboard").iterdir())
    assert f"fra-dist report {run}" in said

    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert page.count("<figure") >= 3
    assert "http" not in page.replace("http-equiv", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert main([*words, "--fresh"]) == 2
    assert f"log.metrics_port={port} cannot be opened" in capsys.readouterr().err
