"""What `train.precision=auto` is on each kind of machine, and that a run keeps to it."""

import json
from pathlib import Path

import pytest
import torch

from fra_dist import distributed
from fra_dist.config import Config, load_config
from fra_dist.train import precision
from fra_dist.train.checkpoints.reading import list_checkpoints, newest_good
from fra_dist.train.cpu_measurements import cache_path, machine
from fra_dist.train.hooks.saving import Checkpoints
from fra_dist.train.precision import KIND, MEMORY, decided, precision_of_run
from fra_dist.train.prepare import close, prepare
from fra_dist.train.resume import NEWEST, Origin
from fra_dist.train.trainer import train
from tests.helpers.tiny import TINY

CPU, GPU = torch.device("cpu"), torch.device("cuda")
WORDS = [*TINY, "train.precision=auto", "train.backend=torch", "loss.relation=0"]
AUTO = load_config(None, WORDS)


@pytest.fixture
def cpu_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Say whether the CPU computes in bf16, and what is measured of its time in fp32."""
    monkeypatch.setenv("FRA_DIST_CACHE", str(tmp_path / "cache"))

    def set_cpu(able: bool, share: float = 0.6) -> None:
        monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: able)
        monkeypatch.setattr(precision, "measure", lambda: share)
        cache_path(KIND).unlink(missing_ok=True)

    return set_cpu


@pytest.mark.parametrize(
    ("flags", "limit", "able"),
    [
        ((True, False), "", True),
        ((False, True), "", True),
        ((True, True), "", True),
        ((False, False), "", False),
        ((False, False), "ALL", False),
        ((True, True), "AVX2", False),
        ((True, True), "avx512_core", False),
        ((True, False), "AVX512_CORE_VNNI", False),
        ((True, False), "AVX512_CORE_BF16", True),
        ((True, True), "avx512_core_amx", True),
        ((True, True), "DEFAULT", True),
    ],
)
def test_a_cpu_computes_in_bf16_if_it_has_instructions_that_onednn_may_use(
    flags: tuple[bool, bool], limit: str, able: bool
) -> None:
    assert precision._usable(avx512=flags[0], amx=flags[1], limit=limit) is able


@pytest.mark.parametrize(
    ("device", "able", "share", "expected"),
    [
        (GPU, False, 0.6, "bf16"),
        (CPU, True, 0.6, "bf16"),
        (CPU, True, 0.95, "fp32"),
        (CPU, True, 1.5, "fp32"),
        (CPU, False, 0.6, "fp32"),
    ],
)
def test_auto_follows_what_is_measured_of_the_machine(
    cpu_with, device: torch.device, able: bool, share: float, expected: str
) -> None:
    cpu_with(able, share)
    made, memory, told = precision_of_run(AUTO, device, None)
    assert (made.train.precision, memory) == (expected, {MEMORY: expected})
    assert (told is not None) == (device == CPU and able)
    if told:
        assert f"{share:.2f} times as long in bf16 as in fp32, so the run computes in {expected}" in told
    assert decided(AUTO, device) == (made, told)
    assert AUTO.train.precision == "auto"


def test_a_cpu_is_measured_once(cpu_with, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(True, 0.5)
    first = decided(AUTO, CPU)
    monkeypatch.setattr(precision, "measure", lambda: 2.0)
    assert decided(AUTO, CPU) == first
    assert json.loads(cache_path(KIND).read_text()) == {"machine": machine(), "bf16_over_fp32": 0.5}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bf16_over_fp32": "fast"}', '{"bf16_over_fp32": 0}'])
def test_a_damaged_cache_is_measured_again(cpu_with, content: str) -> None:
    cpu_with(True, 0.5)
    cache_path(KIND).parent.mkdir(parents=True)
    cache_path(KIND).write_text(content)
    assert precision.bf16_share()[0] == 0.5


def test_what_cannot_be_kept_is_not_relied_on(cpu_with) -> None:
    cpu_with(True, 0.5)
    cache_path(KIND).parent.parent.write_text("a file in place of the folder")
    made, told = decided(AUTO, CPU)
    assert made.train.precision == "fp32"
    assert told is not None
    assert "no measurement can be kept in the cache" in told


def test_a_real_measurement_is_a_share_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    share = precision.measure()
    assert 0.05 < share < 100
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("device", "expected"), [(CPU, "fp32"), (GPU, "bf16")])
def test_with_the_relation_term_a_cpu_stays_in_fp32(cpu_with, device: torch.device, expected: str) -> None:
    cpu_with(True)
    assert decided(load_config(None, [*WORDS, "loss.relation=0.1"]), device)[0].train.precision == expected


@pytest.mark.parametrize(("device", "expected"), [(CPU, "fp32"), (GPU, "bf16")])
def test_where_every_bit_counts_a_cpu_is_not_measured(cpu_with, device: torch.device, expected: str) -> None:
    cpu_with(True)
    made, told = decided(load_config(None, [*WORDS, "train.deterministic=true"]), device)
    assert (made.train.precision, told) == (expected, None)
    assert not cache_path(KIND).exists()


def test_one_rank_without_bf16_keeps_all_in_fp32(cpu_with, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(True)
    monkeypatch.setattr(precision, "from_all", lambda own: [own, False])
    assert decided(AUTO, CPU)[0].train.precision == "fp32"


@pytest.mark.parametrize("named", ["fp32", "bf16", "fp64"])
def test_a_named_precision_is_taken_as_it_is(cpu_with, named: str) -> None:
    cpu_with(named != "bf16")
    config = precision.with_precision(AUTO, named)
    assert precision_of_run(config, CPU, None) == (config, {}, None)
    assert precision_of_run(config, CPU, {MEMORY: "bf16"}) == (config, {}, None)


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize(("able", "share"), [(True, 0.5), (True, 1.5), (False, 1.5)])
@pytest.mark.parametrize("began", ["bf16", "fp32"])
def test_a_resumed_run_keeps_what_it_began_with(
    cpu_with, device: torch.device, able: bool, share: float, began: str
) -> None:
    cpu_with(able, share)
    made, memory, told = precision_of_run(AUTO, device, {MEMORY: began, "guard": {}})
    assert (made.train.precision, memory) == (began, {MEMORY: began})
    slow = device == CPU and began == "bf16" and share > 1
    assert (told is not None and "train.precision=fp32 with --force" in told) == slow


@pytest.mark.parametrize(("device", "began"), [(GPU, "bf16"), (CPU, "fp32")])
@pytest.mark.parametrize("record", [{}, {MEMORY: "fp8"}, {MEMORY: 3}])
def test_checkpoints_without_a_record_go_on_as_they_began(
    cpu_with, device: torch.device, began: str, record: dict
) -> None:
    cpu_with(True)
    made, memory, told = precision_of_run(AUTO, device, record)
    assert (made.train.precision, memory, told) == (began, {MEMORY: began}, None)


def test_a_run_on_a_cpu_with_bf16_goes_on_in_it_on_one_without(
    cpu_with, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.shards={shards}", f"output={tmp_path / 'run'}", "train.steps=4", "checkpoint.every_steps=2"]
    config = load_config(None, [*WORDS, *words])
    cpu_with(True)
    assert _trained(config, NEWEST) == [torch.bfloat16] * 4
    first, _ = list_checkpoints(tmp_path / "run" / "checkpoints")
    cpu_with(False)
    assert _trained(config, Origin(source=first)) == [torch.bfloat16] * 2
    assert "keeps to it, but this CPU computes bf16 by way of fp32" in capsys.readouterr().err
    last, _ = newest_good(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert (last.step, last.memory[MEMORY], last.config.train.precision) == (4, "bf16", "auto")
    notes = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [note["attempt"] for note in notes if note["event"] == "precision"] == [1, 2]


def _trained(config: Config, origin: Origin) -> list[torch.dtype]:
    """Do all steps of a run; returns what the backbone's maps were computed in, step by step."""
    seen: list[torch.dtype] = []
    run = prepare(config, origin=origin)
    backbone = run.model.online.backbone
    backbone.register_forward_hook(lambda _, __, maps: seen.append(maps.dtype))
    try:
        assert train(run, [Checkpoints()])
    finally:
        close(run)
        distributed.stop()
    return seen[::2]  # two views a step
