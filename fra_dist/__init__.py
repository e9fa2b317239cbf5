"""fra_dist: distributed pre-training of face representations with Facial Region Awareness.

    import fra_dist

    model = fra_dist.load("runs/mine")              # a run, a checkpoint or a file of weights
    found = model("face.jpg")                       # embedding, region embeddings, heatmaps
    model.show("face.jpg").save("regions.png")

    fra_dist.make_shards("photos", "shards/mine")   # and pretrain, embed, heatmaps, evaluate: what the commands do
    fra_dist.pretrain("vggface2_r50", data={"shards": "shards/mine"}, output="runs/mine")

Every name below is imported when it is first used, so `import fra_dist` itself takes no time. The same things can be
imported where they belong: `fra_dist.models`, `fra_dist.losses`, `fra_dist.data`, `fra_dist.config`.
"""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.api.embedding import Embeddings as Embeddings
    from fra_dist.api.embedding import embed as embed
    from fra_dist.api.evaluation import Evaluation as Evaluation
    from fra_dist.api.evaluation import evaluate as evaluate
    from fra_dist.api.face_model import FaceModel as FaceModel
    from fra_dist.api.face_model import FaceOutput as FaceOutput
    from fra_dist.api.face_model import load as load
    from fra_dist.api.pictures import heatmaps as heatmaps
    from fra_dist.api.pretraining import RunResult as RunResult
    from fra_dist.api.pretraining import pretrain as pretrain
    from fra_dist.api.shards import make_shards as make_shards
    from fra_dist.config import Config as Config
    from fra_dist.config import load_config as load_config
    from fra_dist.data import load_manifest as load_manifest
    from fra_dist.losses import fra_loss as fra_loss
    from fra_dist.models import FRA as FRA

__version__ = "0.1.0"

_HOMES = {
    "Config": "fra_dist.config",
    "Embeddings": "fra_dist.api.embedding",
    "Evaluation": "fra_dist.api.evaluation",
    "FRA": "fra_dist.models",
    "FaceModel": "fra_dist.api.face_model",
    "FaceOutput": "fra_dist.api.face_model",
    "RunResult": "fra_dist.api.pretraining",
    "embed": "fra_dist.api.embedding",
    "evaluate": "fra_dist.api.evaluation",
    "fra_loss": "fra_dist.losses",
    "heatmaps": "fra_dist.api.pictures",
    "load": "fra_dist.api.face_model",
    "load_config": "fra_dist.config",
    "load_manifest": "fra_dist.data",
    "make_shards": "fra_dist.api.shards",
    "pretrain": "fra_dist.api.pretraining",
}
__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
