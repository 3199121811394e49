"""Uploads while training goes on: one thread, one snapshot in memory, nothing lost.

The trainer hands over a copy of its weights and goes on; a slow store, or one that is down for a while,
makes it wait before the next copy, never skip one. Not covered: what is uploaded (`run`), and a single
request's retries (`components.storage.connection`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from components.errors import Unavailable
from components.progress import duration, log

T = TypeVar("T")

#: How long a store that went away is waited for. Each request waits by itself first.
OUTAGE_SECONDS = 1800.0
_PAUSE_SECONDS = 2.0


class Uploads:
    """Does jobs one after another in a thread of its own; use it as a context manager.

    Leaving the block waits for the job under way. What a job raises is raised by the next call here, or on
    leaving the block unless that happens by another exception already.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="uploads", initializer=_yield_to_training)
        self._job: Future[None] | None = None
        self.waited = 0.0  #: seconds that `ready` has waited in all

    def __enter__(self) -> Uploads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.ready()
            elif self._job is not None:
                # The checkpoint under way may be the last good one. The exception on its way says what is wrong.
                with contextlib.suppress(Exception):
                    self._job.result()
        finally:
            self._thread.shutdown()

    def ready(self) -> None:
        """Wait until no job is under way: only then take the next snapshot, so that memory holds one."""
        if self._job is not None:
            started = time.monotonic()
            job, self._job = self._job, None
            try:
                job.result()
            finally:
                self.waited += time.monotonic() - started

    def check(self) -> None:
        """Raise what a job has raised, without waiting for one that is under way."""
        if self._job is not None and self._job.done():
            self.ready()

    def submit(self, *jobs: Callable[[], None]) -> None:
        """Begin `jobs`, one after another, when those before them have ended."""
        self.ready()
        self._job = self._thread.submit(_all, jobs)


def _all(jobs: Iterable[Callable[[], None]]) -> None:
    for job in jobs:
        job()


def _yield_to_training() -> None:
    """Let this thread have what training leaves of the cores; while training waits for it, that is all of them."""
    if sys.platform == "linux":
        # Of a thread's number, Linux takes this for the thread alone.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 5)


def persistently(request: Callable[[], T], patience: float = OUTAGE_SECONDS) -> T:
    """What `request` returns, asked again while the store does not answer; it may run more than once.

    Raises:
        Unavailable: when the store has not answered for `patience` seconds.
    """
    started = time.monotonic()
    while True:
        try:
            return request()
        except Unavailable as error:
            away = time.monotonic() - started
            if away > patience:
                raise
            log(
                f"{error}; waiting since {duration(away)}, for {duration(patience)} at most; training goes on meanwhile"
            )
            time.sleep(_PAUSE_SECONDS)
