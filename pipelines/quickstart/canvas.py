"""Drawing primitives: an anti-aliased mask to draw shapes into, smooth noise, blurring.

Numpy and Pillow only. Lengths are pixels of the finished image; coordinates are (x, y). What is drawn (boards,
chips, tiles) lives elsewhere.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Point = tuple[float, float]
FloatArray = NDArray[np.floating[Any]]  # float32 in the main; type checkers see float64 in mixed arithmetic

# Shapes are drawn larger by this factor and averaged down: smooth edges without a rasteriser of our own.
SUPERSAMPLING = 2


class Canvas:
    """A square 8-bit mask that shapes are drawn into, `SUPERSAMPLING` times finer than `coverage` returns it."""

    def __init__(self, size: int, value: int = 0) -> None:
        self.size = size
        self.image = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING), value)
        self._draw = ImageDraw.Draw(self.image)

    def disc(self, centre: Point, radius: float, value: int = 255) -> None:
        """Fill a circle."""
        x, y, r = (v * SUPERSAMPLING for v in (*centre, radius))
        self._draw.ellipse((x - r, y - r, x + r - 1, y + r - 1), fill=value)

    def polygon(self, points: Sequence[Point], value: int = 255, grow: float = 0.0) -> None:
        """Fill a polygon, made larger by `grow` pixels on every side."""
        self._draw.polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=value)
        if grow > 0:
            self.stroke([*points, points[0]], 2 * grow, value)

    def stroke(self, points: Sequence[Point], width: float, value: int = 255) -> None:
        """Draw a polyline of the given width with round joints and ends."""
        half = width / 2
        for (ax, ay), (bx, by) in pairwise(points):
            length = math.hypot(bx - ax, by - ay)
            if length == 0:
                continue
            nx, ny = -(by - ay) / length * half, (bx - ax) / length * half
            self.polygon([(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)], value)
        for point in points:
            self.disc(point, half, value)

    def coverage(self) -> NDArray[np.uint8]:
        """The mask at the finished size, (size, size) uint8, 255 where a pixel is wholly covered."""
        return np.asarray(self.image.reduce(SUPERSAMPLING))

    def pixels(self) -> NDArray[np.uint8]:
        """The values as drawn, without averaging, at the finished size."""
        return np.asarray(self.image)[::SUPERSAMPLING, ::SUPERSAMPLING]


def smooth_noise(rng: np.random.Generator, size: int, scale: float | tuple[float, float]) -> FloatArray:
    """Noise of about unit deviation whose grains are `scale` pixels (or (vertical, horizontal)) large.

    Returns (size, size) float32.
    """
    sy, sx = scale if isinstance(scale, tuple) else (scale, scale)
    rows, columns = math.ceil(size / sy) + 3, math.ceil(size / sx) + 3
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    if sy <= 1 and sx <= 1:
        return coarse[:size, :size]
    grown = Image.fromarray(coarse).resize((max(size, round(columns * sx)), max(size, round(rows * sy))),
                                           Image.Resampling.BICUBIC)  # fmt: skip
    oy, ox = min(round(sy), grown.height - size), min(round(sx), grown.width - size)
    return np.asarray(grown, dtype=np.float32)[oy : oy + size, ox : ox + size] * 1.25


def blur(values: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur over the first two axes, edges repeated."""
    if sigma <= 0.05:
        return values
    radius = max(1, math.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(values.ndim)]
        padded = np.pad(values, pad, mode="edge")
        length = values.shape[axis]
        values = np.zeros_like(values)
        for i, weight in enumerate(kernel):
            window = padded[i : i + length] if axis == 0 else padded[:, i : i + length]
            values += weight * window
    return values
