"""Small shards with known contents."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fra_dist.data.making.indexing import index_tars
from fra_dist.data.shards.manifest import Manifest


def textured(height: int, width: int, seed: int = 0) -> Image.Image:
    """A colourful picture with edges, slopes and a little noise."""
    rng = np.random.default_rng([height, width, seed])
    blobs = Image.fromarray(rng.integers(0, 256, (max(1, height // 9), max(1, width // 9), 3), dtype=np.uint8))
    pixels = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return Image.fromarray((pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8))


def jpeg(height: int, width: int, seed: int = 0, **options: object) -> bytes:
    out = io.BytesIO()
    textured(height, width, seed).save(out, "JPEG", **({"quality": 92} | options))
    return out.getvalue()


def write_shards(folder: Path, groups: Sequence[Sequence[bytes]]) -> Manifest:
    """One tar a group, one photo a sample; the keys are `SHARD_NUMBER`."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, group in enumerate(groups):
        with tarfile.open(folder / f"s{shard:03d}.tar", "w") as tar:
            for number, data in enumerate(group):
                info = tarfile.TarInfo(f"{shard}_{number}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return index_tars(folder, workers=1).manifest


def overwrite(manifest: Manifest, sample: int, data: bytes, at: int = 0) -> None:
    """Damage a photo inside its tar, from byte `at` of the photo on."""
    number, row = manifest.row(sample)
    with open(manifest.path(number), "r+b") as file:
        file.seek(int(row["offset"]) + at)
        file.write(data[: int(row["length"]) - at])
