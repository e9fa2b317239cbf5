"""Programs that run without this package: ONNX, for onnxruntime and what reads it, and `torch.export` (.pt2)."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.errors import CheckpointError, ConfigError, FraError
from fra_dist.export.backbone_export import usage_metadata
from fra_dist.export.inference import Exported, InferenceNetwork

INPUT = "images"
OPSET = 18


def write_onnx(exported: Exported, path: Path) -> None:
    """Write the whole network as ONNX, for any batch. Raises ConfigError without onnx, CheckpointError otherwise."""
    _needed("onnx", "onnxscript")
    import onnx

    network = exported.inference()
    with _quietly(), _refused("onnx"):
        program = torch.onnx.export(
            network, (exported.images(),), dynamo=True, opset_version=OPSET, input_names=[INPUT],
            output_names=list(network.outputs), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False,
        )  # fmt: skip
        assert program is not None
        model = program.model_proto
        for key, value in usage_metadata(exported.config, exported.network, exported.step).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, str(path))


def run_onnx(path: Path) -> Callable[[Tensor], list[Any]]:
    """The outputs of an ONNX file by onnxruntime on the CPU, for images. Raises ConfigError without onnxruntime."""
    _needed("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: list(session.run(None, {INPUT: images.numpy()}))


def write_program(exported: Exported, path: Path) -> None:
    """Write the whole network as a program of `torch.export`, for any batch. Raises CheckpointError."""
    network = exported.inference()
    with _quietly(), _refused("torch.export"):
        program = torch.export.export(
            network, (exported.images(),), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
        )
        extra = usage_metadata(exported.config, exported.network, exported.step) | {
            "outputs": " ".join(network.outputs)
        }
        with path.open("wb") as stream:
            torch.export.save(program, stream, extra_files={key: str(value) for key, value in extra.items()})


def run_program(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """The outputs of a program of `torch.export`, for images."""
    with path.open("rb") as stream, _quietly():
        module: Any = torch.export.load(io.BytesIO(stream.read())).module()
    return lambda images: list(module(images))


def outputs_of(network: InferenceNetwork, images: Tensor) -> list[Tensor]:
    """What the network itself says to images."""
    with torch.no_grad():
        return list(network(images))


def _needed(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError:
            raise ConfigError(
                f'this format needs the package {package}: pip install "fra-dist[export]", or in a checkout '
                "`uv pip install -e '.[export]'`"
            ) from None


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except (FraError, OSError):
        raise
    except Exception as error:  # the exporters raise what their parts raise
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{what} cannot express this network: {first[:200]}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress and the hints of the exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "torch._export")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
