"""Arrays kept in the store under a key that says what made them: work that need not be done twice."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from components.storage import Store


class Arrays:
    """Named arrays by key; nothing is kept where there is no store."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    def at(self, *parts: str) -> Arrays:
        """The same, below a prefix."""
        return Arrays(self._store.at(*parts) if self._store is not None else None)

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """What was kept under `key`; None where nothing was, or where it cannot be read any more."""
        data = None if self._store is None else self._store.get_bytes(f"{key}.npz")
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                return dict(found)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep `arrays` under `key`, whole or not at all."""
        if self._store is not None:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            self._store.put_bytes(f"{key}.npz", buffer.getvalue(), "application/octet-stream")

    def clear(self) -> None:
        """Forget everything below this prefix."""
        if self._store is not None:
            self._store.delete_tree()
