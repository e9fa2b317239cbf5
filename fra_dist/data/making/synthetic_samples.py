"""Samples of synthetic faces: the picture (`jpg`), its regions (`mask.png`) and other ground truth (`json`)."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fra_dist.data.making.cleaning import encode_jpeg
from fra_dist.data.shards.index import DECODED, PLAIN
from fra_dist.data.shards.pixel_statistics import pixel_moments
from fra_dist.data.shards.samples import Encoded, Skip, json_bytes
from fra_dist.synthetic import Framing


@dataclass(frozen=True)
class FaceTask:
    """Render and encode faces: calling it gives one sample per seed."""

    seeds: tuple[int, ...]
    """Seeds of the faces."""
    size: int
    """Side of the pictures in pixels."""
    people: int | None
    """How many people the pictures share; None makes every face another person's."""
    quality: int
    """JPEG quality, 1 to 100."""
    framing: Framing = "portrait"
    """What the pictures show, as in `fra_dist.synthetic`."""

    def __call__(self) -> list[Encoded | Skip]:
        from fra_dist.synthetic import ATTRIBUTES, EXPRESSIONS, render

        faces = render(np.array(self.seeds, np.int64), self.size, self.people, self.framing)
        out: list[Encoded | Skip] = []
        for n, seed in enumerate(self.seeds):
            yaw, pitch, roll = (round(float(angle), 3) for angle in faces.pose[n])
            truth = {
                "name": face_name(seed),
                "seed": seed,
                "height": self.size,
                "width": self.size,
                "landmarks": np.round(faces.landmarks[n].astype(float), 3).tolist(),
                "expression": EXPRESSIONS[int(faces.expression[n])],
                "strength": round(float(faces.strength[n]), 4),
                "attributes": {name: bool(has) for name, has in zip(ATTRIBUTES, faces.attributes[n], strict=True)},
                "pose": {"yaw": yaw, "pitch": pitch, "roll": roll},
                "age": round(float(faces.age[n]), 2),
                "identity": int(faces.identity[n]),
            }
            picture = faces.images[n]
            members = {
                "jpg": encode_jpeg(Image.fromarray(picture), self.quality),
                "json": json_bytes(truth),
                "mask.png": _png(faces.masks[n]),
            }
            key = face_name(seed)
            out.append(Encoded(key, members, self.size, self.size, DECODED | PLAIN, pixel_moments(picture)))
        return out


def face_name(seed: int) -> str:
    """Key of the sample that holds the face of a seed."""
    return f"face-{seed:012d}"


def _png(mask: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG", compress_level=6)
    return out.getvalue()
