import pytest
import torch

from fra_dist.train.checkpoints.writing import Contents, save_checkpoint
from tests.helpers.export_models import small_config, trained_a_little


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    """save(**model settings) -> (run folder, model)."""

    def save_run(**settings):
        config = small_config(**settings)
        model = trained_a_little(config)
        folder = tmp_path_factory.mktemp("run")
        contents = Contents(12, config, model.state_dict(), {}, {"torch": torch.__version__})
        save_checkpoint(folder / "checkpoints", contents)
        return folder, model

    return save_run
