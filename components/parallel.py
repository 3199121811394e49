"""The same work on many items at the same time, in threads, with progress.

Threads serve work that waits or that releases Python's lock, as file reading, digests, Pillow and
numpy do. Not covered: processes, and work on tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from components.cores import usable_cores
from components.progress import Progress

T = TypeVar("T")
R = TypeVar("R")


def cores(most: int = 8) -> int:
    """The processor cores that this process may use, `most` at most (each worker takes memory)."""
    return min(most, usable_cores())


def parallel(work: Callable[[T], R], items: Iterable[T], workers: int, progress: Progress) -> list[R]:
    """``[work(item) for item in items]``, `workers` at a time; results in the items' order.

    The first exception ends it: what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        results: list[R] = []
        for result in pool.map(work, items):
            results.append(result)
            progress.update(len(results))
        return results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
