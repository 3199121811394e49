"""The training crop nearest to an image by its pixels: turned, mirrored and shifted copies included.

Images are compared as 32 × 32 grey levels, through a window that is moved by up to two of those pixels
(a sixteenth of the image) against the training crop in its eight orientations. Features may call two
photographs of the same kind near; these distances are small for copies only.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE, _SHIFT = 32, 2
_WINDOW = _SIDE - 2 * _SHIFT


def grey(images: np.ndarray) -> np.ndarray:
    """uint8 ``[n, side, side, 3]`` as grey levels 0 to 255, float32 ``[n, 32, 32]``."""
    small = [
        np.asarray(Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)) for image in images
    ]
    return np.asarray(small, np.float32).reshape(-1, _SIDE, _SIDE)


def oriented(image: np.ndarray, orientation: int) -> np.ndarray:
    """`image` ``[side, side, …]`` in one of eight orientations: quarter turns, from 4 on mirrored first."""
    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


class PixelIndex:
    """Training crops that images are looked up in.

    Args:
        train: as `grey` gives them, float32 ``[k, 32, 32]``, k ≥ 1.
    """

    def __init__(self, train: np.ndarray) -> None:
        inner = slice(_SHIFT, _SIDE - _SHIFT)
        views = [np.stack([oriented(crop[inner, inner], o) for crop in train]) for o in range(8)]
        self._views = np.concatenate(views).reshape(8 * len(train), -1)
        self._squares = (self._views**2).sum(1)
        self._count = len(train)

    def nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nearest view of each image.

        Args:
            images: as `grey` gives them, float32 ``[n, 32, 32]``.

        Returns:
            distances, root mean square of grey levels, float64 ``[n]``; rows of `train` and their
            orientations (see `oriented`), int64 ``[n]``.
        """
        best: np.ndarray = np.full(len(images), np.inf)
        view: np.ndarray = np.zeros(len(images), np.int64)
        for top in range(2 * _SHIFT + 1):
            for left in range(2 * _SHIFT + 1):
                window = images[:, top : top + _WINDOW, left : left + _WINDOW].reshape(len(images), _WINDOW**2)
                squares = (window**2).sum(1)[:, None] + self._squares - 2 * window @ self._views.T
                found = squares.argmin(1)
                least = squares[np.arange(len(images)), found]
                view = np.where(least < best, found, view)
                best = np.minimum(best, least)
        distances = np.sqrt(np.maximum(best, 0) / _WINDOW**2).astype(np.float64)
        return distances, view % self._count, view // self._count
