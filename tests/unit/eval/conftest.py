import json

import numpy as np
import pytest
import webdataset

from fra_dist.data.making.indexing import index_tars
from tests.helpers.pictures import encoded


@pytest.fixture
def write_shards(tmp_path):
    """Write samples (members by extension; a dict is written as JSON) as a folder of one indexed shard."""

    def write(samples):
        folder = tmp_path / "shards"
        folder.mkdir()
        with webdataset.TarWriter(str(folder / "some.tar")) as sink:
            for number, members in enumerate(samples):
                packed = {k: json.dumps(v).encode() if isinstance(v, dict) else v for k, v in members.items()}
                sink.write({"__key__": f"photo{number:03d}", **packed})
        index_tars(folder, "jpg", workers=1)
        return folder

    return write


@pytest.fixture
def photo():
    return encoded(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8), "JPEG")
