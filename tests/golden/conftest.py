"""The published implementation's numbers, and our model with its initial weights, both in float64."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fra_dist.config import DecoderConfig, ModelConfig
from fra_dist.layouts.published_names import from_published
from fra_dist.models.fra import FRA
from tests.golden.golden_reference import PatchBackbone, part

FILE = os.environ.get("FRA_REFERENCE") or Path(__file__).with_name("fra_reference.npz")


@pytest.fixture(scope="session")
def reference() -> dict[str, Tensor]:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}
    return {key: value.double() if value.is_floating_point() else value for key, value in arrays.items()}


@pytest.fixture
def model(reference: dict[str, Tensor]) -> Iterator[FRA]:
    state = from_published(part(reference, "init/"))
    hidden, channels = state["online.projector.linear1.weight"].shape
    regions, width = state["online.prototypes"].shape
    feedforward = len(state["online.decoder.layers.0.linear1.weight"])
    layers = sum(key.startswith("online.decoder.layers.") and key.endswith(".norm1.weight") for key in state)
    decoder = DecoderConfig(layers=layers, feedforward=feedforward, dropout=0.0)
    config = ModelConfig(regions=regions, width=width, hidden=hidden, decoder=decoder)
    fra = FRA(config, backbone=PatchBackbone(channels)).double()
    fra.load_state_dict(state)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield fra
    torch.set_num_threads(threads)
