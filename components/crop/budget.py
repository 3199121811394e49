"""Memory that the step's threads share: a large picture is decoded alone, small ones beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from components import decoding


class Budget:
    """A number of bytes, of which threads hold a part each while they need it.

    Args:
        most: bytes held at once. A thread that wants more waits until nothing else is held.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._freed, self._next = threading.Condition(), threading.Lock()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait for `size` bytes, and hold them. A thread that holds some must not ask for more."""
        # One waits at a time, so that a large picture is not passed by small ones for ever.
        with self._next, self._freed:
            self._freed.wait_for(lambda: not self._held or self._held + size <= self._most)
            self._held += size
        try:
            yield
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()


#: Of all pixels in memory: as much as one picture may take.
PIXELS = Budget(decoding.MOST)
