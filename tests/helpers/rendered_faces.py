"""Rendered faces and the five points of each, for tests that cut faces out."""

import numpy as np
from PIL import Image

from fra_dist.synthetic import render

FACES = render(np.arange(40), 96)


def face(number: int) -> Image.Image:
    """Rendered face `number` of 40, 96 pixels a side."""
    return Image.fromarray(FACES.images[number])


def points(number: int) -> tuple[float, ...]:
    """Its eyes, nose and corners of the mouth, x and y in turn, from its 68 landmarks."""
    marks = FACES.landmarks[number]
    five = [marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]]
    return tuple(float(v) for point in five for v in point)
