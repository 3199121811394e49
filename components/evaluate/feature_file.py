"""Features on disk: written batch by batch, read a block at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: The networks compute in 32 bits: nothing is lost.
_STORED = np.dtype(np.float32)


class FeatureFile:
    """Rows of one width in a file of their own; see `metrics.rows.Rows`.

    Read by plain reads and not through a memory map, whose pages would count as this process's memory.

    Args:
        path: in a folder that exists; what is there is replaced.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path, self._bytes = path, width * _STORED.itemsize
        self.shape = (0, width)
        path.write_bytes(b"")

    def append(self, rows: np.ndarray) -> None:
        """Add `rows` ``[k, width]``, rounded to float32."""
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, _STORED).tobytes())
        self.shape = (self.shape[0] + len(rows), self.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice | np.ndarray, /) -> np.ndarray:
        """float64 ``[rows, width]``."""
        index = np.arange(len(self))[chosen]
        rows = np.empty((len(index), self.shape[1]), _STORED)
        # Rows that follow each other are read together.
        runs = np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1)
        with self._path.open("rb") as file:
            for run in runs:
                if len(run):
                    file.seek(int(index[run[0]]) * self._bytes)
                    rows[run[0] : run[-1] + 1] = np.fromfile(file, _STORED, len(run) * self.shape[1]).reshape(
                        -1, self.shape[1]
                    )
        return rows.astype(np.float64)
