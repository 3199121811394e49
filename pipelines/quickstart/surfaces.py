"""Drawn pictures other than boards: chips on a board, and bare surfaces (ground metal, cast metal, ceramic tiles).

They teach the base model grey photographic texture. Free of defects, unless some are asked for (`flaws`).
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.quickstart.boards import Drawing
from pipelines.quickstart.canvas import Canvas, FloatArray, blur, smooth_noise
from pipelines.quickstart.defects import Defect
from pipelines.quickstart.finishes import MASKS, lighting, over, relief, to_bytes
from pipelines.quickstart.flaws import draw_flaws
from pipelines.quickstart.glyphs import STROKES, write_text

SURFACES = ("metal tile", "brushed metal", "cast metal", "ceramic tile")


def _streaks(rng: np.random.Generator, size: int) -> FloatArray:
    """Grinding marks: lines of many widths along y, coming and going, some of them bright scratches."""
    total = np.zeros((size, size), dtype=np.float32)
    for width, weight in ((1, 1.0), (2, 0.8), (5, 0.6), (14, 0.6)):
        lines = smooth_noise(rng, size, (float(rng.uniform(60, 400)), width))
        total += weight * float(rng.uniform(0.4, 1.2)) * lines
    bright = np.maximum(smooth_noise(rng, size, (float(rng.uniform(40, 200)), 1.4)) - float(rng.uniform(1.6, 2.4)), 0)
    return total + float(rng.uniform(0, 5)) * bright


def _stains(rng: np.random.Generator, size: int) -> FloatArray:
    """Faint dark lines and blots, 0..1."""
    canvas = Canvas(size)
    for _ in range(round(rng.integers(0, 9) * (size / 320) ** 2)):
        x, y = rng.uniform(0, size, 2)
        angle, points = float(rng.uniform(0, 2 * math.pi)), []
        for _ in range(int(rng.integers(3, 24))):
            points.append((float(x), float(y)))
            angle += float(rng.normal(0, 0.7))
            x, y = x + 4 * math.cos(angle), y + 4 * math.sin(angle)
        canvas.stroke(points, float(rng.uniform(0.8, 2.6)), int(rng.integers(60, 255)))
    lines = blur(canvas.coverage().astype(np.float32) / 255, 0.8)
    return lines * np.clip(0.6 + 0.6 * smooth_noise(rng, size, 7), 0, 1)


def draw_surface(rng: np.random.Generator, size: int, kind: str, defects: dict[str, int] | None = None) -> Drawing:
    """A surface of `kind` (one of `SURFACES`), (size, size, 3) uint8, mostly grey.

    `defects` says how many of each kind (see `flaws`) are wanted; fewer come back where there is no room. Raises
    ValueError for an unknown surface or kind.
    """
    if kind not in SURFACES:
        raise ValueError(f"unknown surface {kind!r}; known: {', '.join(SURFACES)}")
    level = float(rng.uniform(45, 165))
    grain = float(rng.uniform(0.02, 0.07)) * smooth_noise(rng, size, 1)
    cloud = 0.05 * smooth_noise(rng, size, 40) + 0.035 * smooth_noise(rng, size, 12)
    if kind in ("metal tile", "brushed metal"):
        strength = float(rng.uniform(0.03, 0.10)) * (1.6 if kind == "brushed metal" else 1.0)
        texture = strength * _streaks(rng, size)
    elif kind == "cast metal":
        height = sum(
            (w * smooth_noise(rng, size, s) for s, w in ((2, 0.5), (4, 1.0), (9, 1.2), (22, 1.5))), np.float32(0)
        )
        texture = float(rng.uniform(0.10, 0.28)) * relief(np.asarray(height), float(rng.uniform(0, 2 * np.pi)))
    else:
        level = float(rng.uniform(120, 210))
        specks = np.maximum(smooth_noise(rng, size, float(rng.uniform(1.2, 3))) - 2.0, 0)
        texture = 0.02 * smooth_noise(rng, size, 5) - float(rng.uniform(0, 0.35)) * specks
    picture: FloatArray = level * (1 + texture + grain + cloud)
    bare: NDArray[np.bool_] = np.ones((size, size), dtype=bool)
    if kind == "metal tile":
        picture, bare = _tile_edges(rng, picture)
    picture = picture * (1 - float(rng.uniform(0.2, 0.55)) * _stains(rng, size))
    picture = picture * lighting(rng, size, float(rng.uniform(0.05, 0.35)))
    picture = blur(np.asarray(picture, dtype=np.float32), float(rng.uniform(0.2, 0.7)))
    picture = picture + float(rng.uniform(0.5, 3.0)) * smooth_noise(rng, size, 1)
    tint = np.ones(3) if rng.random() < 0.75 else 1 + rng.uniform(-0.06, 0.06, 3)
    image = to_bytes(picture[..., None] * tint.astype(np.float32))
    if rng.random() < (0.2 if kind != "ceramic tile" else 0.0):
        image, bare = np.ascontiguousarray(image.transpose(1, 0, 2)), bare.T
    article = "" if kind in ("brushed metal", "cast metal") else "a "
    found: list[Defect] = []
    if defects:
        image, found = draw_flaws(rng, image, bare, defects)
    return Drawing(image, f"a photo of {article}{kind}", found)


def _tile_edges(rng: np.random.Generator, picture: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Tiles end in a bright chamfer and a dark background: a few of them side by side over the picture.

    Returns the picture and where it shows a tile's face.
    """
    size = len(picture)
    x = np.arange(size, dtype=np.float32)
    position = float(rng.uniform(-60, 120))
    face = np.zeros(size, dtype=bool)
    while position < size:
        width = float(rng.uniform(150, 330))
        for edge, inward in ((position, 1), (position + width, -1)):
            depth = (x - edge) * inward
            chamfer = np.exp(-(((depth - rng.uniform(3, 14)) / rng.uniform(1.5, 6)) ** 2))
            picture = picture * (1 + float(rng.uniform(-0.2, 0.8)) * chamfer)
        face |= (x > position + 20) & (x < position + width - 20)
        gap = float(rng.uniform(0, 40))
        outside = (x > position + width) & (x < position + width + gap)
        picture = np.where(outside[None, :], picture * float(rng.uniform(0.1, 0.5)), picture)
        position += width + gap
    return np.asarray(picture, dtype=np.float32), np.broadcast_to(face, picture.shape)


def draw_chips(rng: np.random.Generator, size: int, defects: dict[str, int] | None = None) -> Drawing:
    """Integrated circuits on a board: dark package, marking, pin-1 dot, metal pins; (size, size, 3) uint8.

    `defects` says how many of each kind (see `flaws`) are wanted on the packages; fewer come back where there is no
    room. Raises ValueError for an unknown kind.
    """
    colour = list(MASKS)[int(rng.integers(len(MASKS) - 1))]
    grey = bool(rng.random() < 0.35)
    board = np.asarray(MASKS[colour][0], dtype=np.float32) * (1 + 0.04 * smooth_noise(rng, size, 3))[..., None]
    bodies, pins, ink, dots = (Canvas(size) for _ in range(4))
    cell = float(rng.choice([64, 90, 140, 210]))
    count = math.ceil(size / cell)
    for row in range(count):
        for column in range(count):
            x, y = column * cell + cell / 2, row * cell + cell / 2
            _chip(rng, (x, y), cell * float(rng.uniform(0.4, 0.8)), bodies, pins, ink, dots)
    body, pin = _soft(bodies), _soft(pins)
    shine = 1 + 0.12 * smooth_noise(rng, size, (3, 6))
    picture = over(board, np.float32(float(rng.uniform(150, 215))) * np.stack([shine] * 3, axis=-1), pin)
    picture = picture + (70 * relief(blur(pin, 0.9), float(rng.uniform(0, 6.28))))[..., None]
    shadow = np.roll(blur(body, 2.5), (2, 2), axis=(0, 1))
    picture = picture * (1 - 0.45 * shadow * (1 - body))[..., None]
    tone = float(rng.uniform(24, 62)) * (1 + 0.10 * smooth_noise(rng, size, 1) + 0.07 * smooth_noise(rng, size, 3))
    picture = over(picture, np.stack([tone, tone, tone * 1.05], axis=-1), body)
    picture = picture + (35 * relief(blur(body, 1.5), float(rng.uniform(0, 6.28))))[..., None]
    picture = over(picture, (176, 176, 172), _soft(ink) * body * float(rng.uniform(0.5, 0.95)))
    picture = over(picture, (16, 16, 18), _soft(dots) * 0.8)
    picture = picture * lighting(rng, size, float(rng.uniform(0.05, 0.2)))[..., None]
    picture = blur(picture, float(rng.uniform(0.4, 0.8)))
    picture = picture + float(rng.uniform(0.8, 3.0)) * smooth_noise(rng, size, 1)[..., None]
    if grey:
        picture = np.repeat((picture @ np.array([0.3, 0.59, 0.11], dtype=np.float32))[..., None], 3, axis=2)
    image = to_bytes(picture)
    found: list[Defect] = []
    if defects:
        image, found = draw_flaws(rng, image, body > 0.99, defects)
    return Drawing(image, f"a {'grey ' if grey else ''}photo of a chip on a printed circuit board", found)


def _chip(
    rng: np.random.Generator, centre: tuple[float, float], length: float, bodies: Canvas, pins: Canvas, ink: Canvas,
    dots: Canvas,
) -> None:  # fmt: skip
    (x, y), across = centre, bool(rng.random() < 0.5)
    w, h = length, length * float(rng.uniform(0.5, 1.0))
    if across:
        w, h = h, w
    four_sided = bool(rng.random() < 0.4)
    pitch = float(rng.uniform(5, 14))
    reach = float(rng.uniform(4, 12))
    for horizontal in (True, False):
        if not four_sided and horizontal == across:
            continue
        span, half = (w, h / 2) if horizontal else (h, w / 2)
        for i in range(int(span * 0.9 // pitch)):
            offset = (i - (int(span * 0.9 // pitch) - 1) / 2) * pitch
            a = (x + offset, y - half - reach) if horizontal else (x - half - reach, y + offset)
            b = (x + offset, y + half + reach) if horizontal else (x + half + reach, y + offset)
            pins.stroke([a, b], pitch * 0.5)
    x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    bodies.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    dots.disc((x0 + 0.12 * min(w, h) + 3, y0 + 0.12 * min(w, h) + 3), max(2.0, 0.05 * min(w, h)))
    letters = list(STROKES)
    height = min(w, h) * float(rng.uniform(0.12, 0.22))
    for line in range(int(rng.integers(1, 4))):
        text = "".join(letters[int(i)] for i in rng.integers(0, len(letters), max(2, int(w * 0.7 / (0.75 * height)))))
        write_text(ink, text, (x - 0.35 * w, y - 0.25 * h + line * 1.5 * height), height)


def _soft(canvas: Canvas) -> FloatArray:
    return canvas.coverage().astype(np.float32) / 255
