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
_AT_ONCE = 16


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
        found = [self._nearest(images[i : i + _AT_ONCE]) for i in range(0, len(images), _AT_ONCE)]
        if not found:
            return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
        squares, view = (np.concatenate(parts) for parts in zip(*found))
        distances = np.sqrt(np.maximum(squares, 0) / _WINDOW**2).astype(np.float64)
        return distances, view % self._count, view // self._count

    def _nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and views, float32 and int64 ``[n]``."""
        places = np.lib.stride_tricks.sliding_window_view(images, (1, _WINDOW, _WINDOW))
        windows = places.reshape(-1, _WINDOW**2)
        # Without the windows' own squares, which the choice of a view does not depend on.
        away = self._squares - 2 * windows @ self._views.T
        view = away.argmin(1)
        squares = (away[np.arange(len(windows)), view] + (windows**2).sum(1)).reshape(len(images), -1)
        shift = squares.argmin(1)
        row = np.arange(len(images))
        return squares[row, shift], view.reshape(len(images), -1)[row, shift]
