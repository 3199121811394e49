"""Batches on the device, each made while the step before it computes.

A batch is a function of its number (`batches`), so it may be made at any time and in any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from components.train.batches import Batch


class Feed:
    """The batches that `make` makes, by number, on `device`.

    Within its block, and where `ahead`, each call has a thread make the batch after the one it returns. For a GPU,
    batches are pinned, so that copying one is not waited for. What `make` raises is raised by the call that asks for
    that batch. Leaving the block ends the thread.
    """

    def __init__(self, make: Callable[[int], Batch], device: torch.device, ahead: bool) -> None:
        self._make, self._device, self._ahead = make, device, ahead
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0  #: seconds that `take` has taken in all

    def __enter__(self) -> Feed:
        if self._ahead:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = self._next = None

    def take(self, number: int) -> Batch:
        """Batch `number`."""
        started = time.perf_counter()
        try:
            made, self._next = self._next, None
            batch = made[1].result() if made is not None and made[0] == number else self._made(number)
            if self._thread is not None:
                self._next = number + 1, self._thread.submit(self._made, number + 1)
            return batch.to(self._device)
        finally:
            self.waited += time.perf_counter() - started

    def _made(self, number: int) -> Batch:
        batch = self._make(number)
        return batch.pinned() if self._device.type == "cuda" else batch

    def _begin(self) -> None:
        if self._device.type == "cuda":
            # A new thread's is the first one, where pinning would set up a context that takes memory.
            torch.cuda.set_device(self._device)
