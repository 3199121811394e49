"""Drawn printed circuit boards in several finishes, with or without defects.

The layout is made up (`layout`), defects are drawn into its copper (`defects`), and a finish renders it
(`finishes`). Chips and tiles are in `surfaces`. Numpy and Pillow only.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.quickstart.canvas import Canvas, FloatArray
from pipelines.quickstart.defects import Defect, draw_defects
from pipelines.quickstart.finishes import MASKS, PADS, Masks, finish_grey, finish_photo, finish_scan
from pipelines.quickstart.glyphs import write_text
from pipelines.quickstart.layout import Layout, plan_board

FINISHES = ("scan", "inverted scan", *(f"{colour} photo" for colour in MASKS), "grey photo")


@dataclass(frozen=True)
class Drawing:
    """A drawn picture: (size, size, 3) uint8 RGB, its caption, and its defects with exact masks and boxes."""

    image: NDArray[np.uint8]
    caption: str
    defects: list[Defect] = field(default_factory=list)


def board_caption(finish: str) -> str:
    """What a picture of a board in this finish shows, in words."""
    if finish == "scan":
        return "a scan of a printed circuit board, black copper on white"
    if finish == "inverted scan":
        return "a scan of a printed circuit board, white copper on black"
    return f"a photo of a {finish.removesuffix(' photo')} printed circuit board"


def draw_board(
    rng: np.random.Generator,
    size: int,
    finish: str,
    defects: dict[str, int] | None = None,
    flooded: bool | None = None,
) -> Drawing:
    """Draw a board of `size` × `size` pixels.

    `defects` says how many of each kind (see `defects.KINDS`) are wanted; fewer come back where a board has no
    room for them. Raises ValueError for an unknown finish or kind.
    """
    if finish not in FINISHES:
        raise ValueError(f"unknown finish {finish!r}; known: {', '.join(FINISHES)}")
    layout = plan_board(rng, size, flooded)
    canvas, holes = draw_copper(layout), draw_holes(layout)
    found = draw_defects(rng, layout, canvas, draw_nets(layout), holes.coverage(), defects) if defects else []
    if finish.endswith("scan"):
        masks = Masks(
            _share(canvas), np.zeros((size, size), np.float32), _share(holes), np.zeros((size, size), np.float32)
        )
        image = finish_scan(rng, masks, inverted=finish.startswith("inverted"))
        return Drawing(image, board_caption(finish), found)
    masks = Masks(_share(canvas), _share(_draw_exposed(layout)), _share(holes), _share(_draw_silk(rng, layout)))
    if finish == "grey photo":
        return Drawing(finish_grey(rng, masks), board_caption(finish), found)
    pads = list(PADS)[int(rng.integers(len(PADS)))]
    return Drawing(finish_photo(rng, masks, finish.removesuffix(" photo"), pads), board_caption(finish), found)


def draw_copper(layout: Layout) -> Canvas:
    """The copper of a layout, holes not yet drilled."""
    canvas = Canvas(layout.size, 255 if layout.ground else 0)
    if layout.ground:
        for shape in layout.shapes:
            shape.draw(canvas, 0, grow=layout.ground)
    for shape in layout.shapes:
        shape.draw(canvas)
    return canvas


def draw_nets(layout: Layout) -> NDArray[np.uint8]:
    """The net of each pixel's copper, (size, size) uint8: 0 none, 255 the ground plane, others modulo 254."""
    canvas = Canvas(layout.size, 255 if layout.ground else 0)
    if layout.ground:
        for shape in layout.shapes:
            shape.draw(canvas, 0, grow=layout.ground)
    for shape in layout.shapes:
        shape.draw(canvas, 1 + shape.net % 254)
    return canvas.pixels()


def draw_holes(layout: Layout) -> Canvas:
    """The drilled holes of a layout."""
    canvas = Canvas(layout.size)
    for centre, radius in layout.holes:
        if radius:
            canvas.disc(centre, radius)
    return canvas


def _draw_exposed(layout: Layout) -> Canvas:
    canvas = Canvas(layout.size)
    for shape in layout.shapes:
        if shape.exposed:
            shape.draw(canvas)
    return canvas


def _draw_silk(rng: np.random.Generator, layout: Layout) -> Canvas:
    canvas = Canvas(layout.size)
    for outline in layout.outlines:
        canvas.stroke([*outline, outline[0]], 2.0)
    for corner, text in layout.labels:
        write_text(canvas, text, corner, float(rng.uniform(10, 20)), turned=bool(rng.random() < 0.3))
    return canvas


def _share(canvas: Canvas) -> FloatArray:
    return canvas.coverage().astype(np.float32) / 255
