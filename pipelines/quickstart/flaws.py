"""Defects of bare surfaces and chip packages: blowholes, cracks, scratches, stains.

Each darkens or brightens what was drawn before, so that the surface's own texture stays visible in it. A flaw's mask
is the area that was changed, so mask and box are exact by construction. Numpy and Pillow only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.quickstart.canvas import Canvas, FloatArray, Point, blur, smooth_noise
from pipelines.quickstart.defects import BORDER, SPACING, Defect, bounds
from pipelines.quickstart.finishes import Picture, relief, to_bytes

TILE_KINDS = ("blowhole", "crack", "scratch")
CHIP_KINDS = ("crack", "scratch", "stain")
ATTEMPTS = 200
SIDE = 2 * BORDER  # of the window that a flaw is drawn in; it lies inside the picture wherever the flaw does


@dataclass(frozen=True)
class Flaw:
    """What one flaw does to the window around it: the area it covers, and the light that comes back from it."""

    coverage: FloatArray  # (SIDE, SIDE) float32 in 0..1
    factor: FloatArray | float  # of the brightness within
    slope: float = 0.0  # how strongly its rim catches light or falls into shadow, grey levels


def _blowhole(rng: np.random.Generator, at: Point) -> Flaw:
    """A pit left by gas: a dark, slightly lobed disc with a lit and a shaded rim."""
    canvas, radius = Canvas(SIDE), float(rng.uniform(2.5, 7.5))
    for _ in range(int(rng.integers(1, 4))):
        x, y = (v + float(rng.uniform(-0.35, 0.35)) * radius for v in at)
        canvas.disc((x, y), radius * float(rng.uniform(0.75, 1.0)))
    return Flaw(_soft(canvas, 0.6), float(rng.uniform(0.25, 0.55)), float(rng.uniform(5, 22)))


def _wandering(rng: np.random.Generator, at: Point, length: float, turn: float, width: float) -> Canvas:
    canvas, step = Canvas(SIDE), 3.0
    angle = float(rng.uniform(0, 2 * math.pi))
    x, y = at[0] - length / 2 * math.cos(angle), at[1] - length / 2 * math.sin(angle)
    points: list[Point] = [(x, y)]
    for _ in range(max(2, round(length / step))):
        angle += float(rng.normal(0, turn))
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        points.append((x, y))
    canvas.stroke(points, width)
    return canvas


def _crack(rng: np.random.Generator, at: Point) -> Flaw:
    """A thin dark line that changes its direction often."""
    canvas = _wandering(rng, at, float(rng.uniform(20, 48)), 0.5, float(rng.uniform(1.4, 2.4)))
    return Flaw(_soft(canvas, 0.4), float(rng.uniform(0.2, 0.5)), float(rng.uniform(0, 8)))


def _scratch(rng: np.random.Generator, at: Point) -> Flaw:
    """A straight bright groove."""
    canvas = _wandering(rng, at, float(rng.uniform(20, 44)), 0.03, float(rng.uniform(1.2, 2.2)))
    return Flaw(_soft(canvas, 0.4), float(rng.uniform(1.5, 2.4)), float(rng.uniform(4, 14)))


def _stain(rng: np.random.Generator, at: Point) -> Flaw:
    """Dried flux or dirt: a pale, uneven blot."""
    canvas, radius = Canvas(SIDE), float(rng.uniform(4, 8))
    for _ in range(6):
        x, y = (v + float(rng.normal(0, 0.6)) * radius for v in at)
        canvas.disc((x, y), radius * float(rng.uniform(0.4, 0.9)))
    return Flaw(_soft(canvas, 1.0), 1.6 + 0.25 * smooth_noise(rng, SIDE, 3), 3.0)


_MAKE: dict[str, Callable[[np.random.Generator, Point], Flaw]] = {
    "blowhole": _blowhole,
    "crack": _crack,
    "scratch": _scratch,
    "stain": _stain,
}


def draw_flaws(
    rng: np.random.Generator, image: Picture, where: NDArray[np.bool_], wanted: dict[str, int]
) -> tuple[Picture, list[Defect]]:
    """Add at most `wanted[kind]` flaws of each kind to a picture, (size, size, 3) uint8, in the area `where`.

    Returns the new picture and the flaws; fewer come back where there is no room for all of them. Raises ValueError
    for an unknown kind.
    """
    unknown = sorted(set(wanted) - set(_MAKE))
    if unknown:
        raise ValueError(f"unknown kinds of flaw: {unknown}; known: {sorted(_MAKE)}")
    size = len(image)
    inside = np.zeros((size, size), dtype=bool)
    inside[BORDER : size - BORDER, BORDER : size - BORDER] = True
    places = np.argwhere(where & inside)
    picture: FloatArray = image.astype(np.float32)
    drawn: list[Defect] = []
    centres: list[Point] = []
    queue = [kind for kind, count in wanted.items() for _ in range(count)]
    for kind in [queue[i] for i in rng.permutation(len(queue))]:
        for _ in range(ATTEMPTS if len(places) else 0):
            y, x = (float(v) for v in places[int(rng.integers(len(places)))])
            if any(math.dist((x, y), centre) < SPACING for centre in centres):
                continue
            flaw = _MAKE[kind](rng, (BORDER, BORDER))
            window = (slice(int(y) - BORDER, int(y) + BORDER), slice(int(x) - BORDER, int(x) + BORDER))
            covered = flaw.coverage >= 0.5
            if not covered.any() or (covered & ~where[window]).any():
                continue
            picture[window] = _apply(rng, picture[window], flaw)
            mask = np.zeros((size, size), dtype=bool)
            mask[window] = covered
            drawn.append(Defect(kind, bounds(mask), mask))
            centres.append((x, y))
            break
    return to_bytes(picture), drawn


def _apply(rng: np.random.Generator, picture: FloatArray, flaw: Flaw) -> FloatArray:
    """The window (SIDE, SIDE, 3) with the flaw in it."""
    shade = 1 + flaw.coverage * (flaw.factor - 1)
    changed = picture * shade[..., None]
    rim = relief(blur(flaw.coverage, 0.8), float(rng.uniform(0, 2 * math.pi)))
    return np.asarray(changed + (flaw.slope * rim)[..., None], dtype=np.float32)


def _soft(canvas: Canvas, sigma: float) -> FloatArray:
    return blur(canvas.coverage().astype(np.float32) / 255, sigma)
