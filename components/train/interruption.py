"""SIGTERM as a question that the loop asks, instead of an exception in the middle of a step.

Where a cluster announces that a pod ends, the loop finishes its step and saves a state. Not covered:
SIGKILL and lost nodes; what they cost is bounded by the interval between states.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Within the block, a function that says whether SIGTERM has come.

    A second SIGTERM does what the first one would have done outside. Signals reach the main thread only;
    in another one the answer is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    outside = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, outside)

    signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, outside)
