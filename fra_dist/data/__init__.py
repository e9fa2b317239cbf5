"""From photos to shards to batches: the data packages, in the order in which data flows through them.

`making` turns photos into WebDataset shards; `shards` holds their manifest, index and bytes; `stores` reads folders
behind a URL; `order` decides which sample is read when and how it is augmented; `decoding` turns bytes into views;
`loading` delivers batches to a training step. Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.data.loading.batch import Batch as Batch
    from fra_dist.data.loading.loader import Loader as Loader
    from fra_dist.data.making.indexing import index_tars as index_tars
    from fra_dist.data.making.shard_making import ShardOptions as ShardOptions
    from fra_dist.data.making.shard_making import make_shards as make_shards
    from fra_dist.data.shards.manifest import Manifest as Manifest
    from fra_dist.data.shards.manifest import load_manifest as load_manifest
    from fra_dist.data.shards.manifest import read_members as read_members

_HOMES = {
    "Batch": "fra_dist.data.loading.batch",
    "Loader": "fra_dist.data.loading.loader",
    "Manifest": "fra_dist.data.shards.manifest",
    "ShardOptions": "fra_dist.data.making.shard_making",
    "index_tars": "fra_dist.data.making.indexing",
    "load_manifest": "fra_dist.data.shards.manifest",
    "make_shards": "fra_dist.data.making.shard_making",
    "read_members": "fra_dist.data.shards.manifest",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
