"""The six defects of printed circuit boards, drawn into the copper before it is rendered.

A defect's mask is the copper that it added or removed, so mask and box are exact by construction. Which boards
exist is decided in `layout`; how they look in `finishes`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.quickstart.canvas import Canvas, Point, blur
from pipelines.quickstart.layout import Layout

KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
BORDER = 40  # no defect nearer to the picture's edge: a 64-pixel crop around it stays inside
SPACING = 72.0  # between defects' centres: such a crop shows one of them
SMALLEST = 14  # pixels that must change for a defect to count
ATTEMPTS = 400


@dataclass(frozen=True)
class Defect:
    """One defect: its kind, its box (x0, y0, x1, y1; x1 and y1 exclusive) and its (size, size) bool mask."""

    kind: str
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


class Surroundings:
    """What the drawing of a defect asks about the board: copper or not, which net, where the edges run."""

    def __init__(self, layout: Layout, canvas: Canvas, nets: NDArray[np.uint8], holes: NDArray[np.uint8]) -> None:
        self.layout, self.canvas, self.nets = layout, canvas, nets
        self.coverage = canvas.coverage()
        self.drilled = holes > 0
        self.copper = (self.coverage >= 128) & ~self.drilled
        self._sum = np.zeros((layout.size + 1, layout.size + 1), dtype=np.int64)
        self._sum[1:, 1:] = np.cumsum(np.cumsum(self.copper, axis=0), axis=1)
        soft = blur(self.copper.astype(np.float32), 2.0)
        gy, gx = np.gradient(soft)
        steep = np.hypot(gx, gy)
        steep[self.drilled] = 0
        inside = slice(BORDER, layout.size - BORDER)
        edge = np.zeros_like(self.copper)
        edge[inside, inside] = (steep > 0.12)[inside, inside] & self.copper[inside, inside]
        self.edges = np.argwhere(edge)
        self._gx, self._gy = gx, gy

    def share(self, x: float, y: float, radius: float) -> float:
        """How much of the square around a point is copper, 0..1."""
        x0, y0 = max(0, round(x - radius)), max(0, round(y - radius))
        x1, y1 = min(self.layout.size, round(x + radius) + 1), min(self.layout.size, round(y + radius) + 1)
        s = self._sum
        return float(s[y1, x1] - s[y0, x1] - s[y1, x0] + s[y0, x0]) / max((x1 - x0) * (y1 - y0), 1)

    def outward(self, x: int, y: int) -> Point:
        """The unit vector from copper to bare board at an edge."""
        gx, gy = -float(self._gx[y, x]), -float(self._gy[y, x])
        length = math.hypot(gx, gy) or 1.0
        return gx / length, gy / length

    def along(self, x: float, y: float, dx: float, dy: float, limit: int) -> int:
        """How many pixels one can go from a point until copper turns into board or the reverse."""
        size, here = self.layout.size, self.copper[int(y), int(x)]
        for step in range(1, limit):
            px, py = int(x + dx * step), int(y + dy * step)
            if not (0 <= px < size and 0 <= py < size) or self.copper[py, px] != here:
                return step
        return limit


@dataclass
class Proposal:
    """A stroke that would make a defect: copper (255) or none (0) along `path`."""

    centre: Point
    path: list[Point]
    width: float
    value: int


def _ragged(rng: np.random.Generator, canvas: Canvas, stroke: Proposal) -> None:
    """Draw a stroke of changing width."""
    points, width, value = stroke.path, stroke.width, stroke.value
    for a, b in pairwise(points):
        count = max(2, round(math.dist(a, b) / 1.5))
        for t in np.linspace(0, 1, count):
            r = width / 2 * float(rng.uniform(0.8, 1.2))
            jitter = rng.uniform(-0.12, 0.12, 2) * width
            centre = (a[0] + (b[0] - a[0]) * t + jitter[0], a[1] + (b[1] - a[1]) * t + jitter[1])
            canvas.disc((float(centre[0]), float(centre[1])), max(r, 0.8), value)


def _wander(rng: np.random.Generator, start: Point, angle: float, length: float, turn: float) -> list[Point]:
    """A path that changes its direction a little with every step."""
    points, step = [start], max(2.0, length / 5)
    for _ in range(max(1, round(length / step))):
        angle += float(rng.normal(0, turn))
        x, y = points[-1]
        points.append((x + step * math.cos(angle), y + step * math.sin(angle)))
    return points


def _open(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    traces = [t for t in at.layout.traces if t.width <= 44]
    if not traces:
        return None
    trace = traces[int(rng.integers(len(traces)))]
    i = int(rng.integers(len(trace.points) - 1))
    (ax, ay), (bx, by) = trace.points[i], trace.points[i + 1]
    length = math.dist((ax, ay), (bx, by))
    gap = float(rng.uniform(5, 12))
    if length < gap + 2 * trace.width:
        return None
    t = float(rng.uniform(0.15, 0.85))
    x, y = ax + (bx - ax) * t, ay + (by - ay) * t
    ux, uy = (bx - ax) / length, (by - ay) / length
    half = trace.width / 2
    for side in (-1, 1):  # bare board on both sides, copper before and behind: the cut opens this trace alone
        px, py = x - uy * side * (half + 4), y + ux * side * (half + 4)
        if (
            not _inside(at, px, py)
            or at.share(px, py, 2) > 0
            or at.share(x + ux * side * gap, y + uy * side * gap, 2) < 1
        ):
            return None
    slant = float(rng.uniform(-0.5, 0.5))
    reach = half + 2.5
    path = [
        (x - uy * s * reach + ux * s * slant * reach, y + ux * s * reach + uy * s * slant * reach) for s in (-1.0, 1.0)
    ]
    return Proposal((x, y), path, gap, 0)


def _short(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    y, x = (int(v) for v in at.edges[int(rng.integers(len(at.edges)))])
    nx, ny = at.outward(x, y)
    sx, sy = x + 3 * nx, y + 3 * ny
    if not _inside(at, sx, sy) or at.copper[int(sy), int(sx)]:
        return None
    length = at.along(sx, sy, nx, ny, 46)
    ex, ey = sx + nx * (length + 2), sy + ny * (length + 2)
    if length >= 46 or length < 4 or not _inside(at, ex, ey) or at.drilled[int(ey), int(ex)]:
        return None
    net, other = int(at.nets[y, x]), int(at.nets[int(ey), int(ex)])
    if not net or not other or net == other:
        return None
    middle = ((x + ex) / 2 + float(rng.uniform(-3, 3)), (y + ey) / 2 + float(rng.uniform(-3, 3)))
    path = [(x - 2 * nx, y - 2 * ny), middle, (ex + nx, ey + ny)]
    return Proposal(((x + ex) / 2, (y + ey) / 2), path, float(rng.uniform(4, 8)), 255)


def _mousebite(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    y, x = (int(v) for v in at.edges[int(rng.integers(len(at.edges)))])
    nx, ny = at.outward(x, y)
    thick = at.along(x, y, -nx, -ny, 60)
    depth = min(float(rng.uniform(6, 15)), 0.6 * thick)
    if depth < 5:
        return None
    width = float(rng.uniform(5, 9))
    angle = math.atan2(-ny, -nx) + float(rng.uniform(-0.5, 0.5))
    depth = max(depth - width / 2, 1.0)
    path = [(x + 2 * nx, y + 2 * ny), (x + depth * math.cos(angle), y + depth * math.sin(angle))]
    return Proposal((x - nx * depth / 2, y - ny * depth / 2), path, width, 0)


def _spur(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    y, x = (int(v) for v in at.edges[int(rng.integers(len(at.edges)))])
    nx, ny = at.outward(x, y)
    length, width = float(rng.uniform(9, 18)), float(rng.uniform(4, 8))
    if at.share(x + nx * (length / 2 + 6), y + ny * (length / 2 + 6), length / 2 + 3) > 0.1:
        return None
    path = _wander(rng, (x - nx, y - ny), math.atan2(ny, nx) + float(rng.uniform(-0.5, 0.5)), length, 0.15)
    if at.share(*path[-1], width / 2 + 3) > 0:
        return None
    return Proposal((x + nx * length / 2, y + ny * length / 2), path, width, 255)


def _blob(rng: np.random.Generator, at: Surroundings, value: int, room: float, copper: float) -> Proposal | None:
    x, y = (float(v) for v in rng.uniform(BORDER, at.layout.size - BORDER, 2))
    if at.share(x, y, room) != copper or at.drilled[int(y), int(x)]:
        return None
    length, width = float(rng.uniform(2, 14)), float(rng.uniform(5, 9))
    angle = float(rng.uniform(0, 2 * math.pi))
    start = (x - length / 2 * math.cos(angle), y - length / 2 * math.sin(angle))
    return Proposal((x, y), _wander(rng, start, angle, length, 0.35), width, value)


def _copper(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    return _blob(rng, at, 255, float(rng.uniform(16, 24)), 0.0)


def _pin_hole(rng: np.random.Generator, at: Surroundings) -> Proposal | None:
    return _blob(rng, at, 0, float(rng.uniform(13, 18)), 1.0)


_PROPOSE: dict[str, Callable[[np.random.Generator, Surroundings], Proposal | None]] = {
    "open": _open,
    "short": _short,
    "mousebite": _mousebite,
    "spur": _spur,
    "copper": _copper,
    "pin-hole": _pin_hole,
}


def _inside(at: Surroundings, x: float, y: float) -> bool:
    return BORDER <= x < at.layout.size - BORDER and BORDER <= y < at.layout.size - BORDER


def draw_defects(
    rng: np.random.Generator,
    layout: Layout,
    canvas: Canvas,
    nets: NDArray[np.uint8],
    holes: NDArray[np.uint8],
    wanted: dict[str, int],
) -> list[Defect]:
    """Draw defects into the copper of `canvas`, at most `wanted[kind]` of each kind.

    `nets` is (size, size), the net of each pixel's copper (0: none); `holes` is the drills' coverage. A board may
    have no room for all of them, so fewer can come back. Raises ValueError for an unknown kind.
    """
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds of defect: {unknown}; known: {list(KINDS)}")
    at = Surroundings(layout, canvas, nets, holes)
    drawn: list[Defect] = []
    centres: list[Point] = []
    queue = [kind for kind in KINDS for _ in range(wanted.get(kind, 0))]
    for kind in [queue[i] for i in rng.permutation(len(queue))]:
        for _ in range(ATTEMPTS if len(at.edges) else 0):
            stroke = _PROPOSE[kind](rng, at)
            if stroke is None or not _inside(at, *stroke.centre):
                continue
            if any(math.dist(stroke.centre, c) < SPACING for c in centres):
                continue
            mask = _drawn_mask(rng, at, stroke)
            if mask is None:
                continue
            drawn.append(Defect(kind, bounds(mask), mask))
            centres.append(stroke.centre)
            break
    return drawn


def _drawn_mask(rng: np.random.Generator, at: Surroundings, stroke: Proposal) -> NDArray[np.bool_] | None:
    """Draw the stroke and return the copper that changed; take it back and return None if too little did."""
    saved = at.canvas.image.copy()
    _ragged(rng, at.canvas, stroke)
    coverage = at.canvas.coverage()
    mask = np.abs(coverage.astype(np.int16) - at.coverage) >= 128
    mask &= ~at.drilled
    if mask.sum() < SMALLEST:
        at.canvas.image.paste(saved)
        return None
    at.coverage = coverage
    return mask


def bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box around a mask that is not empty: x0, y0, x1, y1; x1 and y1 exclusive."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
