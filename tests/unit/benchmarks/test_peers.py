"""How `peers.py` asks its processes and compares what they answer; the others themselves need their environment."""

import sys
from pathlib import Path

import peers
import pytest
from peer_process import PeerProcess, last_line

BENCHMARKS = Path(peers.__file__).parent
WAY = f"""
import multiprocessing, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
from peer_process import serve

def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def work():
    while True:
        print("what libraries print is no answer")
        worker = multiprocessing.get_context("fork").Process(target=busy, args=(0.3,))
        worker.start()
        busy(0.2)
        worker.join()
        yield 32

if __name__ == "__main__":
    serve(work())
"""


@pytest.fixture
def way(tmp_path: Path):
    """Start a process that serves the code given."""
    running = []

    def start(code: str) -> PeerProcess:
        (tmp_path / "way.py").write_text(code)
        settings = {"threads": 1}
        running.append(PeerProcess(Path(sys.executable), tmp_path / "way.py", settings, {}, tmp_path / "log"))
        return running[-1]

    yield start
    for process in running:
        process.close()


def test_a_process_does_what_it_is_asked_and_counts_its_workers(way) -> None:
    process = way(WAY)
    assert process.ask(1, 1)["images"] == 32
    answer = process.ask(0, 2)
    assert answer["images"] == 64
    assert 0.9 < answer["cpu"] < 2  # twice 0.2 s of its own and 0.3 s of a worker, and the start of workers
    assert answer["wall"] > 0.4


def test_a_process_that_fails_is_told_by_the_line_of_its_error(way) -> None:
    with pytest.raises(RuntimeError, match=r"^ModuleNotFoundError: No module named 'nothing_like_it'$"):
        way("import nothing_like_it").ask(1, 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Traceback:\n  File x\n    RuntimeError: no opencv\n\nhint: look\n", "RuntimeError: no opencv"),
        ("one\ntwo\n", "two"),
        ("", "it ended without a word"),
    ],
)
def test_the_line_of_an_error(text: str, line: str) -> None:
    assert last_line(text) == line


def test_rates_are_medians_and_ratios_those_of_each_round() -> None:
    part = {"part": "step", "backbone": "resnet18", "dtype": "float32", "size": 112, "batch": 32, "threads": 1}
    ours = [{"images": 32, "cpu": 1.0, "wall": 2.0}, {"images": 32, "cpu": 4.0, "wall": 8.0}]
    theirs = [{"images": 32, "cpu": 3.0, "wall": 2.0}, {"images": 32, "cpu": 12.0, "wall": 16.0}]
    row = peers._row(part, "lightly", theirs, ours)
    assert (row["cpu_rate"], row["ours_over_cpu"]) == (pytest.approx((32 / 3 + 32 / 12) / 2), pytest.approx(3.0))
    assert row["ours_over_wall"] == pytest.approx(1.5)
    assert (row["way"], row["rounds"], row["size"]) == ("lightly", 2, 112)


def test_each_part_has_ours_and_what_it_is_compared_with() -> None:
    found = peers.parts(peers.arguments(["--dtypes", "float32", "bfloat16"]))
    assert [(part["part"], part["size"], part["dtype"]) for part in found] == [
        *(("step", 112, "float32"), ("step", 112, "bfloat16"), ("loop", 112, "float32"), ("loop", 112, "bfloat16")),
        *(("input", 224, "float32"), ("input", 112, "float32")),
    ]
    assert [list(peers.ways(part)) for part in (found[0], found[-1])] == [
        ["lightly", "lightly, channels-last", "ours"],
        [*peers.INPUTS, "ours"],
    ]


def test_every_package_is_pinned() -> None:
    lines = peers.REQUIREMENTS.read_text().split()
    assert all(line.count("==") == 1 for line in lines)
    assert {line.partition("==")[0] for line in lines} >= set(peers.PACKAGES)
