"""Features a block of rows at a time: what is in memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

#: Rows of a block.
AT_ONCE = 256


class Rows(Protocol):
    """Features of one row an image: an array, or what gives parts of it as float64 arrays ``[rows, d]``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Any, /) -> np.ndarray:
        """The rows of a slice, or of indices in any order."""
        ...


def blocks(rows: Rows) -> Iterator[tuple[slice, np.ndarray]]:
    """Where each block lies, and the block, float64 ``[≤ AT_ONCE, d]``."""
    for start in range(0, len(rows), AT_ONCE):
        place = slice(start, min(start + AT_ONCE, len(rows)))
        yield place, rows[place]


class Joined:
    """Several sets of features as one.

    Args:
        parts: one or more, of the same width.
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice | np.ndarray, /) -> np.ndarray:
        index = np.arange(len(self))[chosen]
        found = np.empty((len(index), self.shape[1]))
        of_part = np.searchsorted(self._ends, index, side="right")
        for number, part in enumerate(self._parts):
            here = of_part == number
            if here.any():
                found[here] = part[index[here] - (self._ends[number] - len(part))]
        return found
