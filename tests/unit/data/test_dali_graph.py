"""DALI's graph for a GPU, on a machine without one: it is defined, counted, and held against the operators' schemas."""

import re
from typing import Any

import pytest
from nvidia.dali import backend, fn

from fra_dist.config import DataConfig
from fra_dist.data.decoding import dali_graph

ABSENT = 7
"""Number of a GPU that the machine does not have."""
MOST_OPERATORS = {0: 10, 6: 34}
"""Local views -> operators of the graph, sources of numbers among them: four a view, the photos and, with `decode:
once`, their decoder. Each costs the host time for every batch."""


def defined(**data: object) -> Any:
    graph = dali_graph.define_graph(DataConfig(**data), 16, ABSENT, finished=False)  # type: ignore[arg-type]
    graph._build_graph()
    return graph


def problems(graph: Any) -> list[str]:
    """What DALI would refuse when it builds the graph: arguments, numbers of inputs, and where they must be."""
    found = []
    for operator in graph._ops:
        spec = operator.spec
        name, device = re.findall(r"OpSpec for (\w+):.*?^    device: (\w+)$", str(spec), re.S | re.M)[0]
        schema = backend.GetSchema(name)
        backends = schema.GetSupportedBackends()
        try:
            schema.CheckArgs(spec)
        except Exception as error:
            found.append(f"{operator.name}: {error}")
        if device not in backends:
            found.append(f"{operator.name}: no {device} operator, only {', '.join(backends)}")
        if not schema.MinNumInput() <= spec.NumRegularInput() <= schema.MaxNumInput():
            found.append(f"{operator.name}: {spec.NumRegularInput()} inputs")
    return found


@pytest.mark.parametrize("decode", ["once", "crops", "auto"])
@pytest.mark.parametrize("local_views", MOST_OPERATORS)
def test_the_graph_of_a_gpu_is_small_and_what_the_schemas_allow(decode: str, local_views: int) -> None:
    graph = defined(decode=decode, local_views=local_views)
    assert problems(graph) == []
    assert len(graph._ops) <= MOST_OPERATORS[local_views]
    outputs = [output for operator in graph._ops for output in operator.outputs]
    images = [output for output in outputs if "Resize" in output.name or "Image" in output.name]
    assert {output.device for output in images} == {"gpu"}


def test_a_wrong_argument_and_a_wrong_device_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    proper = fn.resize
    monkeypatch.setattr(fn, "resize", lambda *inputs, **words: proper(*inputs, **words, antialiasing=True))
    with pytest.raises(Exception, match="antialiasing"):
        assert problems(defined()) == []
    monkeypatch.setattr(fn, "resize", lambda *inputs, **words: proper(*inputs, **words, device="cpu"))
    with pytest.raises(Exception, match="stored on incompatible device"):
        assert problems(defined()) == []


def test_operators_that_a_change_adds_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    proper = fn.resize
    monkeypatch.setattr(fn, "resize", lambda *inputs, **words: fn.flip(proper(*inputs, **words)))
    assert len(defined()._ops) > MOST_OPERATORS[0]


def test_a_gpu_that_is_not_there_is_an_error_when_the_graph_is_built() -> None:
    with pytest.raises(RuntimeError, match=r"CUDA|device"):
        dali_graph.build_graph(DataConfig(), 16, ABSENT, finished=False)
