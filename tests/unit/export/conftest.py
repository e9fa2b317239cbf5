import pytest
import torch
from export_models import small_config, trained_a_little

from fra_dist.train.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    """save(**model settings) -> (run folder, model)."""

    def save_run(**settings):
        config = small_config(**settings)
        model = trained_a_little(config)
        folder = tmp_path_factory.mktemp("run")
        save_checkpoint(folder / "checkpoints", 12, config, model.state_dict(), {}, {"torch": torch.__version__}, 1)
        return folder, model

    return save_run
