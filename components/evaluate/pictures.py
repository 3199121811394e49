"""Pictures for people: real crops beside generated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components import report

_TILE = 128
_GAP = 2
_INK, _MUTED = "#1b2430", "#5b6675"


def tile_side(resolution: int) -> int:
    """Side at which an image is shown: small ones enlarged by whole pixels, large ones reduced."""
    return max(_TILE // resolution, 1) * resolution if resolution <= _TILE else _TILE


def reduced(images: np.ndarray) -> np.ndarray:
    """uint8 ``[n, side, side, 3]``, no larger than they are shown: whole ones would fill the memory, checkpoint by
    checkpoint."""
    if images.shape[1] <= _TILE:
        return images.copy()
    tiles = [Image.fromarray(i).resize((_TILE, _TILE), Image.Resampling.LANCZOS) for i in images]
    return np.asarray([np.asarray(tile) for tile in tiles], np.uint8).reshape(-1, _TILE, _TILE, 3)


def strip(images: np.ndarray, columns: int) -> Image.Image:
    """uint8 ``[n, side, side, 3]`` in rows of `columns`."""
    side = tile_side(images.shape[1])
    return report.contact_sheet([Image.fromarray(i) for i in images], columns, side, gap=_GAP)


def comparison(
    real: Mapping[str, np.ndarray], drawn: Sequence[tuple[str, Mapping[str, np.ndarray]]], columns: int
) -> Image.Image:
    """A labelled sheet: for each class a row of real held-out crops, then a row for each checkpoint.

    Args:
        real: class → uint8 ``[≤ columns, side, side, 3]``.
        drawn: label and, by class, as many images for each checkpoint; same noise, same column.
    """
    font, bold = ImageFont.load_default(16), ImageFont.load_default(20)
    labels = ["real, held out", *(label for label, _ in drawn)]
    margin = 24 + round(max(font.getlength(label) for label in labels))
    step = tile_side(next(iter(real.values())).shape[1]) + _GAP
    head = 44
    block = head + step * len(labels)
    sheet = Image.new("RGB", (margin + step * columns + _GAP, block * len(real) + 12), "white")
    pen = ImageDraw.Draw(sheet)
    for number, name in enumerate(real):
        top = number * block
        pen.text((12, top + 14), name, font=bold, fill=_INK)
        rows = [real[name], *(images[name] for _, images in drawn)]
        for row, (label, images) in enumerate(zip(labels, rows)):
            y = top + head + row * step
            pen.text((12, y + step / 2), label, font=font, fill=_INK if row == 0 else _MUTED, anchor="lm")
            if len(images):
                sheet.paste(strip(images[:columns], columns), (margin - _GAP, y - _GAP))
    return sheet


def pairs(images: Sequence[np.ndarray], crops: Sequence[np.ndarray]) -> Image.Image:
    """Each generated image above the training crop nearest to it."""
    return strip(np.concatenate([reduced(np.stack(images)), reduced(np.stack(crops))]), len(images))
