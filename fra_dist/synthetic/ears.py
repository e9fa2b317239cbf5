"""Ears: a flat ellipsoid on each side of the head, joined to the surface that the rays met."""

import math

import numpy as np

from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Box, Plane, ramp, spot
from fra_dist.synthetic.rays import Hits, Rays

_FLARE = math.radians(28.0)  # how far an ear's face turns towards the viewer


def add_ears(hits: Hits, rays: Rays, turn: np.ndarray, p: Person, pixel: float) -> list[tuple[Box, np.ndarray, Plane]]:
    """Join the ears to depth, cover and normals of the hits, in place.

    Returns for each ear its box, the pixels that it takes there, and how dark its folds are. pixel: width of a pixel in
    head units.
    """
    folds = []
    for side in (-1.0, 1.0):
        centre = (side * 0.745 * p.width, 0.13, -0.12)
        if sum(float(turn[2, k]) * centre[k] for k in range(3)) < -0.5:
            continue
        u, v = (sum(float(turn[i, k]) * centre[k] for k in range(3)) for i in range(2))
        box = _box(rays, u, v, 0.34, pixel)
        if hits.x[box].size:
            folds.append((box, *_join(hits, rays, box, side, centre, p.ears, turn, pixel)))
    return folds


def _box(rays: Rays, u: float, v: float, reach: float, pixel: float) -> Box:
    height, width = rays.qx.shape
    column, row = (u - float(rays.qx[0, 0])) / pixel, (v - float(rays.qy[0, 0])) / pixel
    half = reach / pixel
    rows = slice(min(max(0, int(row - half)), height), min(max(0, int(row + half) + 1), height))
    return rows, slice(min(max(0, int(column - half)), width), min(max(0, int(column + half) + 1), width))


def _join(
    hits: Hits,
    rays: Rays,
    box: Box,
    side: float,
    centre: tuple[float, float, float],
    size: float,
    turn: np.ndarray,
    pixel: float,
) -> tuple[np.ndarray, Plane]:
    cos, sin = math.cos(_FLARE), math.sin(_FLARE)
    lean = 0.18
    axes = (
        (side * cos / 0.055, 0.0, sin / 0.055),
        (0.0, 1.0 / (0.215 * size), lean / (0.215 * size)),
        (-side * sin / (0.125 * size), -lean / (0.125 * size), cos / (0.125 * size)),
    )
    x, y, z = rays.x[box] - centre[0], rays.y[box] - centre[1], rays.z[box] - centre[2]
    start = [a * x + b * y + c * z for a, b, c in axes]
    step = [sum(a * c for a, c in zip(axis, rays.step, strict=True)) for axis in axes]
    square = sum(s * s for s in step)
    half = start[0] * step[0] + start[1] * step[1] + start[2] * step[2]
    inside = half * half - square * (start[0] ** 2 + start[1] ** 2 + start[2] ** 2 - 1.0)
    inside *= 1.0 / square
    cover = ramp(inside, -12.0 * pixel, 12.0 * pixel)
    depth = (np.sqrt(np.maximum(inside, 0.0)) * math.sqrt(square) - half) * (1.0 / square)
    front = (cover > 0) & ((depth > hits.depth[box]) | (hits.alpha[box] < 0.5))
    np.copyto(hits.depth[box], depth, where=front)
    np.copyto(hits.alpha[box], np.maximum(cover, hits.alpha[box]), where=front)
    own = [s + c * depth for s, c in zip(start, step, strict=True)]
    facing = [sum(axis[k] * q for axis, q in zip(axes, own, strict=True)) for k in range(3)]
    unit = 1.0 / np.sqrt(facing[0] ** 2 + facing[1] ** 2 + facing[2] ** 2 + 1e-9)
    for k, plane in enumerate(hits.normal):
        a, b, c = (float(v) for v in turn[k])
        np.copyto(plane[box], (a * facing[0] + b * facing[1] + c * facing[2]) * unit, where=front)
    across, down = own[2], own[1]
    fold = 0.38 * spot(across, down, 0.15, 0.05, 0.42, 0.45)
    fold += 0.15 * ramp(np.abs(across * across + 0.9 * down * down - 0.55), 0.16, 0.0)
    return front, fold * front
