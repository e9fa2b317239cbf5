import pytest
import torch

from fra_dist.config import parse_config
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint

SMALL = {
    "name": "small",
    "data": {"image_size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "model": {
        "backbone": "tiny",
        "regions": 5,
        "width": 16,
        "hidden": 32,
        "decoder": {"layers": 1, "heads": 4, "feedforward": 16},
    },
}


def save_small(folder, **model):
    settings = {**SMALL, "model": {**SMALL["model"], **model}}
    if settings["model"]["decoder"] is None:
        settings["loss"] = {"local": 0.0, "relation": 0.0}
    config = parse_config(settings)
    torch.manual_seed(0)
    state = FRA(config.model).state_dict()
    contents = Contents(7, config, state, {}, {"torch": torch.__version__})
    return save_checkpoint(folder / "checkpoints", contents)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder with one checkpoint of a small untrained FRA of 5 regions at 32 px."""
    folder = tmp_path_factory.mktemp("run")
    save_small(folder)
    return folder


@pytest.fixture(scope="session")
def byol_run(tmp_path_factory):
    """The same without a region decoder."""
    folder = tmp_path_factory.mktemp("byol")
    save_small(folder, decoder=None)
    return folder
