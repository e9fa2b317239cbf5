"""Light on the head: cast shadows, shading and gloss."""

import numpy as np

from fra_dist.synthetic.planes import Plane, soften
from fra_dist.synthetic.shot import Shot


def cast_shadow(depth: Plane, shot: Shot, pixel: float) -> Plane:
    """Share of the key light that the surface itself keeps from each pixel, 0 to 1, found by steps towards the light.

    pixel: width of a pixel in head units.
    """
    lx, ly, lz = shot.light
    shade = np.zeros_like(depth)
    height, width = depth.shape
    for reach in (0.05, 0.10, 0.17, 0.27):
        right, down = round(reach * lx / pixel), round(reach * ly / pixel)
        if right == 0 and down == 0:
            continue
        here = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
        there = (slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right)))
        over = depth[there] - depth[here]
        over -= reach * lz
        over *= 9.0
        np.maximum(shade[here], over, out=shade[here])
    np.minimum(shade, 1.0, out=shade)
    return soften(shade, (0.02 / pixel) ** 2)


def shade(
    shot: Shot, normal: tuple[Plane, Plane, Plane], shadow: Plane | float, wraps: tuple[float, float, float]
) -> np.ndarray:
    """Light that arrives at each pixel (3, h, w): a key light and a fill light between sky and floor.

    wraps: how far the key light reaches around the edge in red, green and blue; red most, as skin scatters it.
    """
    nx, ny, nz = normal
    lx, ly, lz = shot.light
    facing = nx * lx + ny * ly + nz * lz
    lit = 1.0 - shadow
    sky = shot.ambient * (0.72 - 0.22 * ny + 0.12 * nz)
    out = np.empty((3, *nx.shape), np.float32)
    for channel, wrap in enumerate(wraps):
        key = np.maximum(facing + wrap, 0.0)
        key *= shot.key * shot.key_colour[channel] / (1.0 + wrap)
        key *= lit
        key += sky * shot.fill_colour[channel]
        out[channel] = key
    return out


def gloss(shot: Shot, normal: tuple[Plane, Plane, Plane], shadow: Plane | float) -> Plane:
    """Mirror-like share of the key light (h, w): (h·n)¹⁶, h halfway between light and viewer (Blinn, SIGGRAPH 1977)."""
    lx, ly, lz = shot.light
    length = (lx * lx + ly * ly + (lz + 1.0) ** 2) ** 0.5
    nx, ny, nz = normal
    h = np.maximum(nx * (lx / length) + ny * (ly / length) + nz * ((lz + 1.0) / length), 0.0)
    for _ in range(4):
        h *= h
    return h * (1.0 - shadow) * shot.key
