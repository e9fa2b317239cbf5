"""Where the features lie on the face: curves in frontal coordinates (x to the image's right, y down, head units).

The painter and the landmarks read the same curves, so the truth cannot drift from the picture.
"""

from dataclasses import dataclass

import numpy as np

from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Plane
from fra_dist.synthetic.shot import Action

JAW_POINTS = 17
"""Number of landmarks on the jaw, which precede those of the features."""
_LIDS = np.array([1.0, 0.36, -0.36, -1.0, -0.36, 0.36], np.float32)
_BROW = np.linspace(0.02, 0.98, 5, dtype=np.float32)
_BRIDGE = np.linspace(0.0, 1.0, 4, dtype=np.float32)
_WINGS = np.array([-0.78, -0.4, 0.0, 0.4, 0.78], np.float32)
_UNDER = np.array([-0.03, -0.008, 0.0, -0.008, -0.03], np.float32)
_LIPS = np.array(
    [-1, -0.62, -0.24, 0, 0.24, 0.62, 1, 0.62, 0.24, 0, -0.24, -0.62, -0.86, -0.4, 0, 0.4, 0.86, 0.4, 0, -0.4],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Eye:
    """An eye; lengths are in head units. Its own coordinates grow outwards (u, in half-widths) and down (v)."""

    side: float
    """-1 for the eye on the image's left, 1 for the other."""
    x: float
    """x of the eye's centre."""
    y: float
    """y of the eye's centre."""
    width: float
    """Half the eye's width."""
    upper: float
    """Height of the upper lid above the line of the corners."""
    lower: float
    """Depth of the lower lid below the line of the corners."""
    tilt: float
    """Slope by which the outer corner is raised."""

    def local(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """The eye's own coordinates (u, v) of points (x, y) in head units, of a face seen from the front."""
        u = (x - self.x) * (self.side / self.width)
        return u, (y - self.y) + u * (self.tilt * self.width)

    def lids(self, u: Plane) -> tuple[Plane, Plane]:
        """v of the upper and of the lower lid at u; both are 0 at the corners u = ±1."""
        bulge = 1.0 - u * u
        bulge *= 1.0 + 0.35 * (1.0 - bulge)
        return bulge * (0.14 * u - 1.0) * self.upper, bulge * (1.0 + 0.12 * u) * self.lower

    def points(self) -> np.ndarray:
        """Landmarks (6, 2): outer corner, two on the upper lid, inner corner, two on the lower lid, in this order."""
        u = _LIDS
        up, low = self.lids(u)
        v = np.concatenate([up[:3], low[3:]]) - u * (self.tilt * self.width)
        return np.stack([self.x + self.side * u * self.width, self.y + v], 1)


@dataclass(frozen=True, slots=True)
class Brow:
    """A brow: a straight line over w (0 at the inner and 1 at the outer end) plus an arch; lengths in head units."""

    side: float
    """-1 for the brow on the image's left, 1 for the other."""
    inner: tuple[float, float]
    """(x, y) of the inner end; x is measured from the middle of the face."""
    outer: tuple[float, float]
    """(x, y) of the outer end; x is measured from the middle of the face."""
    arch: float
    """Height of the brow's arch."""
    weight: float
    """Thickness of the brow."""

    def local(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """(w, distance below the brow's middle line) of frontal coordinates (x, y)."""
        w = (x * self.side - self.inner[0]) * (1.0 / (self.outer[0] - self.inner[0]))
        return w, y - self.middle(w)

    def middle(self, w: Plane) -> Plane:
        """y of the middle line at w; the arch peaks at about two thirds."""
        peak = w * (1.0 - w) * (0.4 + 1.1 * w) * (4.0 / 1.05)
        return self.inner[1] + w * (self.outer[1] - self.inner[1]) - self.arch * peak

    def points(self) -> np.ndarray:
        """Landmarks (5, 2) from the inner to the outer end."""
        x = self.side * (self.inner[0] + _BROW * (self.outer[0] - self.inner[0]))
        return np.stack([x, self.middle(_BROW) - 0.2 * self.weight], 1)


@dataclass(frozen=True, slots=True)
class Mouth:
    """The lips, as four curves over u, which runs from -1 to 1 from corner to corner; lengths are in head units."""

    x: float
    """x of the middle of the mouth."""
    y: float
    """y of the line between the closed lips, in the middle."""
    width: float
    """Half the width of the mouth."""
    corner: float
    """How far the corners lie below the middle; negative is above."""
    skew: float
    """How far the corner on the image's right is lowered, and the other one raised."""
    open_up: float
    """How far the upper lip is raised from the line."""
    open_down: float
    """How far the lower lip is lowered from the line."""
    upper: float
    """Thickness of the upper lip."""
    lower: float
    """Thickness of the lower lip."""

    def curves(self, u: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """y of the upper lip's top and bottom and of the lower lip's top and bottom, at u."""
        square = np.minimum(u * u, 1.2)
        bulge = 1.0 - square
        middle = self.y + self.corner * square + self.skew * u
        inner = middle - self.open_up * bulge
        bow = 1.0 - 0.28 / (1.0 + (u * (1.0 / 0.16)) ** 2)
        top = inner - self.upper * bulge * (0.75 + 0.5 * square) * bow
        lower = middle + self.open_down * bulge
        return top, inner, lower, lower + self.lower * bulge * (1.0 + 0.35 * square)

    def points(self) -> np.ndarray:
        """Landmarks (20, 2): twelve around the outside, then eight inside, each clockwise from the left corner."""
        u = _LIPS
        top, inner, lower, bottom = self.curves(u)
        y = np.concatenate([top[:7], bottom[7:12], inner[12:17], lower[17:]])
        y[[12, 16]] = 0.5 * (inner + lower)[[12, 16]]
        return np.stack([self.x + u * self.width, y], 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """All features of one face in one expression; lengths are in head units."""

    eyes: tuple[Eye, Eye]
    """The eye on the image's left, then the one on its right."""
    brows: tuple[Brow, Brow]
    """The brow on the image's left, then the one on its right."""
    mouth: Mouth
    """The lips."""
    nose_top: float
    """y of the upper end of the nose's bridge."""
    nose_tip: float
    """y of the tip of the nose."""
    nose_base: float
    """y of the base of the nose."""
    nose_width: float
    """Half the width of the nose at its base."""
    drop: float
    """How far the jaw has come down."""

    def points(self) -> np.ndarray:
        """(51, 2) frontal coordinates of points 17 to 67 of the iBUG scheme."""
        left, right = self.eyes
        one, two = left.points(), right.points()
        out = np.zeros((51, 2), np.float32)
        out[:5], out[5:10] = self.brows[0].points()[::-1], self.brows[1].points()
        out[10:14, 1] = self.nose_top + (self.nose_tip - self.nose_top) * _BRIDGE
        out[14:19, 0], out[14:19, 1] = self.nose_width * _WINGS, self.nose_base + _UNDER
        out[19:25], out[25:31] = one, two[[3, 2, 1, 0, 5, 4]]
        out[31:] = self.mouth.points()
        return out


def _eye(p: Person, a: Action, side: float) -> Eye:
    opening = p.eye_height * (
        1.0 + 0.42 * a.lid_up - 0.32 * a.squint - 0.42 * a.droop - 0.12 * a.cheek - 0.1 * a.nose_wrinkle
    )
    lower = p.eye_height * (1.0 + 0.15 * a.lid_up - 0.75 * a.cheek - 0.5 * a.squint + 0.1 * a.droop)
    tilt = p.eye_tilt - 0.10 * a.droop
    return Eye(
        side, side * p.eye_distance, 0.0, p.eye_width, 0.058 * max(opening, 0.18), 0.036 * max(lower, 0.05), tilt
    )


def _brow(p: Person, a: Action, side: float) -> Brow:
    inner_y = -p.brow_height - 0.105 * a.brow_inner + 0.085 * a.brow_lower + 0.035 * a.nose_wrinkle
    outer_y = -p.brow_height + 0.035 - 0.09 * a.brow_outer + 0.02 * a.brow_lower + 0.02 * a.droop
    inner_x = 0.135 - 0.035 * a.brow_lower - 0.01 * a.nose_wrinkle
    arch = 0.028 * p.brow_arch + 0.03 * a.brow_outer - 0.012 * a.brow_inner - 0.012 * a.brow_lower
    return Brow(side, (inner_x, inner_y), (p.eye_distance + 0.185, outer_y), arch, 0.042 * p.brow_weight)


def _mouth(p: Person, a: Action) -> Mouth:
    wide = 1.0 + 0.24 * a.corner_up + 0.16 * a.stretch - 0.22 * a.pucker - 0.05 * a.press - 0.04 * a.chin_up
    thin = (1.0 - 0.5 * a.press) * (1.0 - 0.22 * a.corner_up) * (1.0 - 0.2 * a.stretch) * (1.0 + 0.15 * a.pucker)
    parted = 0.065 * a.part
    y = p.mouth_height + 0.012 * a.corner_up - 0.03 * a.lip_raise - 0.02 * a.chin_up + 0.02 * a.pucker + 0.085 * a.jaw
    return Mouth(
        x=0.0,
        y=y,
        width=p.mouth_width * wide,
        corner=-0.085 * a.corner_up + 0.075 * a.corner_down + 0.02 * a.stretch,
        skew=0.0,
        open_up=0.5 * parted + 0.02 * a.lip_raise * min(1.0, 3.0 * a.part) + 0.095 * a.jaw,
        open_down=0.6 * parted + 0.105 * a.jaw,
        upper=p.upper_lip * thin * (1.0 - 0.2 * a.lip_raise),
        lower=p.lower_lip * thin * (1.0 + 0.1 * a.chin_up),
    )


def lay_out(p: Person, a: Action) -> Layout:
    """The layout of person `p`'s face under facial actions `a`."""
    up = 0.028 * a.nose_wrinkle
    return Layout(
        eyes=(_eye(p, a, -1.0), _eye(p, a, 1.0)),
        brows=(_brow(p, a, -1.0), _brow(p, a, 1.0)),
        mouth=_mouth(p, a),
        nose_top=-0.03,
        nose_tip=p.nose_length - 0.08 - up,
        nose_base=p.nose_length - up,
        nose_width=p.nose_width * (1.0 + 0.12 * a.nose_wrinkle + 0.08 * a.corner_up),
        drop=0.17 * a.jaw + 0.03 * a.part,
    )
