import numpy as np

from fra_dist.config import parse_config
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.report.overlay import to_photos
from fra_dist.report.picture_hook import sample_photos


def test_photos_for_the_pictures_are_spread_over_the_shards(shards):
    config = parse_config({"data": {"shards": str(shards), "image_size": 32}})
    images = sample_photos(config, load_manifest(shards), 5)
    assert images.shape == (5, 3, 32, 32)
    photos = to_photos(images, config.data.mean, config.data.std)
    assert all(photo.std() > 10 for photo in photos)
    assert len(np.unique(photos.reshape(5, -1), axis=0)) == 5
    assert len(sample_photos(config, load_manifest(shards), 1000)) == 48
