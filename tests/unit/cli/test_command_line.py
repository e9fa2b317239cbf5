"""The command line itself: near words, help, quiet, completion, JSON, statuses."""

import json
import os
import subprocess
import sys

import pytest

from fra_dist.cli.main import COMMANDS, main, without_quiet


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["pretrian", "c.yaml"], "pretrain"),
        (["shard", "make"], "shards"),
        (["shards", "mak", "x"], "make"),
        (["launch", "slrum", "--config", "x"], "slurm"),
        (["pretrain", "c.yaml", "--dryrun"], "--dry-run"),
        (["launch", "slurm", "--config", "x", "--gpu-per-node", "2", "--cpu-per-task=1", "--nodse", "3"], "--nodes"),
    ],
)
def test_what_was_probably_meant_is_named(words, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "did you mean" in said
    if "--nodse" not in words:
        assert f"(did you mean {meant}?)" in said


def test_a_word_that_is_like_nothing_is_only_refused(capsys):
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    assert "did you mean" not in capsys.readouterr().err


def test_help_names_defaults_and_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["launch", "slurm", "--help"])
    assert "(default: 120)" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "exit status:" in said
    for name in COMMANDS:
        assert f"    {name}" in said


@pytest.mark.parametrize(
    ("task", "own", "foreign"),
    [
        ("alignment", "--norm", "--embedding"),
        ("verification", "--embedding", "--labels"),
        ("regions", "--regions", "--lr"),
    ],
)
def test_help_of_a_task_shows_its_own_options(task, own, foreign, capsys):
    with pytest.raises(SystemExit):
        main(["eval", task, "--help"])
    said = capsys.readouterr().out
    assert f"fra-dist eval {task}" in said
    assert f"\n  {own} " in said
    assert f"\n  {foreign} " not in said
    assert "--checkpoint" in said


def test_quiet_may_stand_anywhere():
    assert without_quiet(["pretrain", "-q", "c.yaml"]) == (["pretrain", "c.yaml"], True)
    assert without_quiet(["pretrain", "c.yaml", "--quiet"]) == (["pretrain", "c.yaml"], True)
    assert without_quiet(["x", "--", "-q"]) == (["x", "--", "-q"], False)
    assert without_quiet(["pretrain", "c.yaml"]) == (["pretrain", "c.yaml"], False)


def test_photos_on_a_laptop_and_a_quiet_run_that_says_no_steps(fra_dist, shards):
    words = ["pretrain", "photos_cpu", f"data.shards={shards}", "train.steps=3", "train.global_batch=16"]
    words += ["optim.warmup_steps=1", "log.every_steps=1", "log.pictures=false", "--quiet"]
    done = fra_dist(*words, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "step 1/" not in done.stdout
    assert "complete: runs/photos_cpu/checkpoints" in done.stdout
    assert "fra-dist export runs/photos_cpu" in done.stdout


def test_photos_on_a_gpu_divide_and_exchange():
    from fra_dist.config import load_config
    from fra_dist.losses.correspondence import check_exchange
    from fra_dist.train.sizes import derive_sizes

    config = load_config("photos_gpu")
    sizes = derive_sizes(config, 10_000, 1)
    assert (sizes.micro_batch, sizes.accumulation) == (256, 1)
    check_exchange(config.loss, sizes.global_batch, sizes.accumulation, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fra-dist pretr", "pretrain"),
        ("fra-dist shards ma", "make"),
        ("fra-dist launch slurm --no", "--nodes"),
        ("fra-dist pretrain debug_cpu train.glob", "train.global_batch="),
        ("fra-dist pretrain photos_", "photos_cpu"),
    ],
)
def test_tab_completes_commands_options_keys_and_configurations(line, expected, tmp_path):
    target = tmp_path / "completions"
    env = {
        **os.environ,
        **{"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"},
        **{"_ARGCOMPLETE_STDOUT_FILENAME": str(target), "_ARGCOMPLETE_SHELL": "zsh"},
    }
    subprocess.run([sys.executable, "-m", "fra_dist.cli.main"], env=env, check=True, capture_output=True, timeout=120)
    assert expected in [word.partition(":")[0].strip() for word in target.read_text().split("\n")]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_code_for_each_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "fra-dist" in capsys.readouterr().out


HELP = ["pretrain", "launch torchrun", "launch slurm", "launch ray", "replay", "status", "report", "ckpt ls", "plan"]
HELP += ["verify-resume", "chaos", "doctor", "shards make", "heatmaps", "eval expression", "embed", "export", "convert"]
HELP += ["kernels", "config", "init", "demo", "completion"]


def test_help_imports_nothing_slow():
    code = "import sys\nfrom fra_dist.cli.main import main\n"
    code += f"for words in {HELP}:\n    try:\n        main([*words.split(), '--help'])\n    except SystemExit as end:\n"
    code += "        assert end.code == 0, words\n"
    code += "    slow = {'torch', 'numpy', 'pydantic', 'scipy', 'ray', 'PIL'} & set(sys.modules)\n"
    code += "    assert not slow, (words, slow)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "pretrain debug_cpu data.shards=nowhere",
        "pretrain debug_cpu data.photos=nowhere",
        "pretrain debug_cpu data.photos=nowhere --dry-run",
        "pretrain debug_cpu data.photos=synthetic:64 model.init=nowhere.pt",
        "pretrain debug_cpu data.photos=synthetic:64 --from nowhere",
        "launch torchrun --config debug_cpu data.shards=nowhere",
        "launch torchrun --config debug_cpu data.photos=nowhere",
        "launch slurm --config debug_cpu data.shards=nowhere",
        "launch ray --config debug_cpu data.photos=synthetic:64 model.init=nowhere.pt",
        "replay nowhere 3",
        "chaos debug_cpu data.shards=nowhere",
        "doctor nowhere.yaml",
        "plan debug_cpu data.shards=nowhere",
        "shards make nowhere --out mine",
        "shards check nowhere",
        "convert nowhere mine.safetensors --to ours",
        "demo --out /proc/nowhere",
        "status nowhere",
        "export nowhere --out mine",
        "eval nowhere --data faces",
        "eval small-synthetic --data nowhere",
        "eval expression --checkpoint nowhere --dataset rafdb --data faces",
        "eval expression --checkpoint small-synthetic --dataset rafdb --data nowhere",
        "eval expression --checkpoint small-synthetic --dataset nowhere --data .",
        "eval miniature --dataset rafdb --out /proc/nowhere",
        "eval all nowhere.yaml --checkpoint small-synthetic",
        "embed --checkpoint nowhere --data faces --out mine",
        "embed --checkpoint small-synthetic --data nowhere --out mine",
        "embed --checkpoint small-synthetic --data . --labels nowhere.csv --out mine",
        "heatmaps nowhere faces",
        "heatmaps small-synthetic nowhere nowhere/*.jpg",
        "report nowhere",
        "report RUN --eval nowhere",
        "report RUN --embeddings nowhere",
        "ckpt ls nowhere",
        "ckpt show nowhere",
        "ckpt verify nowhere",
        "ckpt diff nowhere nowhere",
        "ckpt average nowhere --out mine",
        "verify-resume nowhere",
        "verify-resume debug_cpu data.shards=nowhere",
    ],
)
def test_wrong_paths_are_refused_before_torch_is_imported(line, tmp_path):
    code = "import sys\nfrom fra_dist.cli.main import main\nstatus = main(sys.argv[1:])\n"
    code += "assert 'torch' not in sys.modules\nsys.exit(status)\n"
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "config.yaml").touch()
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_have_json(shards, small_run, capsys):
    def said(*words):
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    plan = ["plan", "debug_cpu", f"data.shards={shards}", "--ranks", "2"]
    assert said(*plan)["per_rank"] == 8
    assert sum(row["samples"] for row in said("shards", "ls", shards)) == 48
    assert said("shards", "ls", shards, "0")[0]["width"] == 48
    assert said("ckpt", "ls", small_run)[0]["step"] == 7
    assert said("ckpt", "verify", small_run)[0]["verdict"] == "good"
    assert said("ckpt", "show", small_run)["step"] == 7
    found = said("kernels")
    assert "relation" in found["kernels"]
    assert {"machine", "cache", "layers"} == found["convolutions"].keys()
    assert {"instructions", "over_fp32"} == found["bf16"].keys()
    assert {"name", "path", "about"} <= set(said("config", "list")[0])
    assert said("config", "optim.lr")[0]["default"] == "0.9"


def test_the_package_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fra_dist", "plan", "nowhere.yaml"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("fra-dist plan: cannot read configuration nowhere.yaml")
