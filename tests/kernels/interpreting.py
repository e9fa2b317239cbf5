"""Checks of kernels in Triton's interpreter, in a process with TRITON_INTERPRET=1 from its start.

The process prints {check: error or null}. `checks` runs every check; `mutants` breaks the kernels' source in one place
at a time and runs checks until one fails.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from fra_dist.kernels import triton_dropout, triton_matmul

HERE = Path(__file__).parent

Checks = Mapping[str, Callable[[], None]]
Mutants = Mapping[str, tuple[str, str, str]]
"""Name -> (source as it is, broken source, the check that is expected to notice)."""


def interpret(script: str, what: str) -> dict[str, str | None]:
    """Called by tests: what `script` prints."""
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": str(HERE.parents[1]),
        "PYTHONWARNINGS": "ignore",
        "FRA_DIST_KERNELS": "auto",
    }
    done = subprocess.run([sys.executable, HERE / script, what], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main(cases: Checks, others: Checks, launch: Any, mutants: Mutants) -> None:
    """Called by scripts. cases: those that mutants are tried on; launch: the module whose `kernels` they replace."""
    import torch

    torch.set_num_threads(1)
    _round_as_gpus_do()
    # Room for results is filled with NaN, so a value that no kernel wrote is seen.
    torch.use_deterministic_algorithms(True)
    if sys.argv[1] == "mutants":
        source = _with_shared(Path(launch.kernels.__file__).read_text())
        results = {name: _catch(source, mutant, cases, launch) for name, mutant in mutants.items()}
    else:
        results = {name: _outcome(run) for name, run in ({**cases, **others}).items()}
    print(json.dumps(results))


def _round_as_gpus_do() -> None:
    """The interpreter cuts fp32 off to bf16, where GPUs round to the nearest, as PyTorch does."""
    import torch
    from triton import language
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def rounded(values: Any, before: Any, after: Any, mode: Any) -> Any:
        if (before, after) != (language.float32, language.bfloat16):
            return convert(values, before, after, mode)
        return torch.from_numpy(values.copy()).bfloat16().view(torch.int16).numpy().view("uint16")

    interpreter._convert_float = rounded


def _with_shared(source: str) -> str:
    """The source with the functions that kernels share in place of their import, so that mutants reach them."""
    for module in (triton_dropout, triton_matmul):
        shared = Path(module.__file__).read_text()
        line = re.compile(rf"^from {re.escape(module.__name__)} import .*\n", re.MULTILINE)
        source = line.sub(lambda _, shared=shared: shared[shared.index("@triton.jit") :], source)
    return source


def _outcome(run: Callable[[], None]) -> str | None:
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _catch(source: str, mutant: tuple[str, str, str], checks: Checks, launch: Any) -> str | None:
    """The check that fails on a mutant, the expected one first; None if all pass."""
    old, new, expected = mutant
    with tempfile.TemporaryDirectory() as folder:
        launch.kernels = _mutated(source, old, new, folder)
        for name in (expected, *(other for other in checks if other != expected)):
            if _outcome(checks[name]) is not None:
                return name
    return None


def _mutated(source: str, old: str, new: str, folder: str) -> ModuleType:
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
    path = Path(folder, "mutant.py")
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("mutant", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
