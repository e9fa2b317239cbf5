"""A miniature of labelled shards, as `fra-dist shards make synthetic:...` writes them."""

from pathlib import Path

from fra_dist.data.making.shard_making import ShardOptions, make_shards


def write_shards(folder: Path, count: int, seed: int) -> None:
    """Write labelled shards of twice `count` photos of `count` people, a little more than half of them for training."""
    make_shards(f"synthetic:{2 * count}@80/{count}", folder, ShardOptions(workers=1, seed=seed))
