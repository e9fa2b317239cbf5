"""fra_dist: distributed pre-training of face representations with Facial Region Awareness.

    import fra_dist

    model = fra_dist.load("runs/mine")              # a run, a checkpoint or a file of weights
    found = model("face.jpg")                       # embedding, region embeddings, heatmaps
    model.show("face.jpg").save("regions.png")

Every name below is imported when it is first used, so `import fra_dist` itself takes no time. The same things can be
imported where they belong: `fra_dist.models`, `fra_dist.losses`, `fra_dist.data`, `fra_dist.config`.
"""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.api.face_model import FaceModel as FaceModel
    from fra_dist.api.face_model import FaceOutput as FaceOutput
    from fra_dist.api.face_model import load as load
    from fra_dist.config import Config as Config
    from fra_dist.config import load_config as load_config
    from fra_dist.data import load_manifest as load_manifest
    from fra_dist.data import make_shards as make_shards
    from fra_dist.losses import fra_loss as fra_loss
    from fra_dist.models import FRA as FRA

__version__ = "0.1.0"

_HOMES = {
    "Config": "fra_dist.config",
    "FRA": "fra_dist.models",
    "FaceModel": "fra_dist.api.face_model",
    "FaceOutput": "fra_dist.api.face_model",
    "fra_loss": "fra_dist.losses",
    "load": "fra_dist.api.face_model",
    "load_config": "fra_dist.config",
    "load_manifest": "fra_dist.data",
    "make_shards": "fra_dist.data",
}
__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
