"""Draws with several models at the same time, each in a thread of its own: the networks release Python's lock.

What a model draws does not depend on the others: each has its own noise, and torch the same number of threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from components import sampling
from components.errors import UserError
from components.evaluate.candidates import Candidate
from components.evaluate.config import EvaluateConfig
from components.parallel import cores
from components.progress import Progress, log

T = TypeVar("T")

#: What is done with a model: with its candidate, what loads it, and what is to be called with the number of images
#: after each batch.
Use = Callable[[Candidate, Callable[[], sampling.Model], Callable[[int], None]], T]


def workers_and_threads(config: EvaluateConfig) -> tuple[int, int]:
    """Models at the same time, and torch's threads of each.

    A CPU is better used by several models than by several threads of one, whose layers are small; a GPU by one model.
    """
    gpu = torch.cuda.is_available()
    workers = config.workers or (1 if gpu else cores(4))
    return workers, config.num_threads or (cores() if gpu else 1)


class Runner:
    """A model is in memory while it draws; `workers` of them at most.

    Args:
        images_each: that a model draws, for the count.
        folder: for the weights while they are fetched.
        threads: of torch, for each worker.
    """

    def __init__(
        self, candidates: Sequence[Candidate], images_each: int, folder: Path, workers: int, threads: int
    ) -> None:
        self._candidates, self._each, self._folder = candidates, images_each, folder
        self._workers, self._threads = workers, threads
        self.total = len(candidates) * images_each
        self._progress = Progress("drawing and measuring", self.total, "image")
        self._done = 0
        self._counting, self._loading, self._stopped = threading.Lock(), threading.Lock(), threading.Event()

    def run(self, use: Use[T]) -> Generator[tuple[Candidate, T | UserError | None], None, None]:
        """Each candidate, in their order, and what `use` returns of it.

        None where it draws no numbers, the error where an optional one cannot be had. Closed early, it waits for the
        batches that are being drawn.

        Raises:
            UserError: for a base model that draws no numbers, and for a candidate that cannot be had.
        """
        pool = ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(self._threads,))
        try:
            waiting: deque[tuple[Candidate, Future[T | UserError | None]]] = deque(
                (candidate, pool.submit(self._used, use, candidate)) for candidate in self._candidates
            )
            while waiting:
                # Not kept: what one model left is not in memory while the next is looked at.
                candidate, future = waiting.popleft()
                yield candidate, future.result()
        finally:
            self._stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _used(self, use: Use[T], candidate: Candidate) -> T | UserError | None:
        loaded: list[sampling.Model] = []
        counted = 0

        def model() -> sampling.Model:
            if not loaded:
                # One at a time: they share a folder, and libraries change global state while they load.
                with self._loading:
                    loaded.append(candidate.load(self._folder))
            return loaded[0]

        def seen(count: int) -> None:
            nonlocal counted
            counted += count
            self._count(count)
            if self._stopped.is_set():
                raise InterruptedError("the evaluation has ended")

        try:
            return use(candidate, model, seen)
        except sampling.NotFiniteError as error:
            if candidate.step == 0:
                raise UserError(f"{candidate.what} is broken: {error}; mirror it again") from None
            remedy = "" if candidate.optional else "; training diverged, lower train.learning_rate"
            log(f"{candidate.what} is left out: {error}{remedy}")
            return None
        except UserError as error:
            if not candidate.optional:
                raise
            return error
        finally:
            # A model that draws nothing counts as done.
            self._count(self._each - counted)

    def _count(self, count: int) -> None:
        with self._counting:
            self._done += count
            self._progress.update(self._done)
