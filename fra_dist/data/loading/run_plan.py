"""The order in which a run reads its samples, from its configuration; without torch, as `fra-dist plan` needs it."""

from fra_dist.config import Config
from fra_dist.data.order.plan import Plan
from fra_dist.data.shards.manifest import Manifest


def make_plan(config: Config, manifest: Manifest) -> Plan:
    """The reading plan of a configuration on a data set. Raises DataError when there are fewer samples than a global
    batch."""
    data = config.data
    return Plan(manifest.sizes, config.seed, config.train.global_batch, data.shuffle_streams, data.shuffle_window)
