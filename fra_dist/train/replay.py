"""Replaying a step of a run from the checkpoint before it, to see where it goes wrong."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import load_config
from fra_dist.data.loading.batch import Batch
from fra_dist.errors import ConfigError
from fra_dist.train.checkpoints.reading import newest_good
from fra_dist.train.guard_files import read_passed_over
from fra_dist.train.prepare import close, prepare
from fra_dist.train.resume import NEWEST, Origin
from fra_dist.train.trainer import Run


def replay(folder: Path, step: int) -> Iterator[str]:
    """Yield lines about step `step` (from 1, as in the metrics) of the run in `folder`, which is not changed.

    The steps since the newest good checkpoint before it are done first, so on the same machine and number of ranks the
    step meets the weights that it met in the run. Raises ConfigError when the run has no such step.
    """
    config = load_config(folder / "config.yaml")
    passed_over = read_passed_over(folder)
    found, damage = newest_good(folder / "checkpoints", before=step)
    yield from damage
    yield f"from {found.path.name if found else 'the start'} to step {step}"
    with tempfile.TemporaryDirectory(prefix="fra-replay-") as scratch:
        plain = config.train.model_copy(update={"cuda_graphs": False})  # a recording shows nothing of its modules
        changes = {"output": scratch, "log": config.log.model_copy(update={"tensorboard": False}), "train": plain}
        run = prepare(config.model_copy(update=changes), origin=Origin(source=found.path) if found else NEWEST)
        try:
            if not 1 <= step <= run.sizes.total_steps:
                raise ConfigError(f"{folder} has no step {step}: its steps are 1 to {run.sizes.total_steps}")
            run.guard.passed_over = {left_out: why for left_out, why in passed_over.items() if left_out != step - 1}
            for batch in run.batches():
                if batch.step == step - 1:
                    yield from _watched(run, batch)
                    return
                run.take_step(batch)
        finally:
            close(run)


def _watched(run: Run, batch: Batch) -> Iterator[str]:
    for number, view in enumerate(batch.views, start=1):
        bad = (~view.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        low, high = view.min().item(), view.max().item()
        yield f"view {number}: values {low:.3g} to {high:.3g}" + (
            f", not finite in {_samples(batch, bad)}" if bad else ""
        )
    with _watch(run.model) as (modules, parameters):
        terms = run.step.run(batch.step, batch.views, batch.geometry)
    for name, value in terms.items():
        yield f"{name:<24} {value.item():.6g}"
    yield f"first module whose output is not finite: {modules[0] if modules else 'none'}"
    count = len(parameters)
    yield f"parameters whose gradient is not finite: {count}" + (
        f", the first in backward {parameters[0]}" if count else ""
    )


def _samples(batch: Batch, positions: list[int]) -> str:
    return "samples " + ", ".join(str(int(batch.ids[i])) for i in positions[:8])


@contextmanager
def _watch(model: nn.Module) -> Iterator[tuple[list[str], list[str]]]:
    """Names of modules and of parameters in the order in which something not finite came out of them."""
    modules: list[str] = []
    parameters: list[str] = []
    handles: list[Any] = []

    def watch_module(name: str, module: nn.Module) -> None:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            found = output if isinstance(output, tuple) else (output,)
            if not all(torch.isfinite(each).all() for each in found if isinstance(each, Tensor)):
                modules.append(name)

        handles.append(module.register_forward_hook(look))

    def watch_parameter(name: str, parameter: nn.Parameter) -> None:
        def look(gradient: Tensor) -> None:
            if not torch.isfinite(gradient).all():
                parameters.append(name)

        handles.append(parameter.register_hook(look))

    for name, module in model.named_modules():
        watch_module(name, module)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            watch_parameter(name, parameter)
    try:
        yield modules, parameters
    finally:
        for handle in handles:
            handle.remove()
