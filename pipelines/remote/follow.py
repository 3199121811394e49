"""A run, watched to its end: the states of its steps, what they write, and what holds them up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.errors import Unavailable, UserError
from components.progress import duration, log
from pipelines.remote import logs, obstacles, runs
from pipelines.remote.server import Missing, Server

#: Seconds between two looks at the run, and at its pods.
LOOK = 5.0
LOOK_AT_PODS = 30.0


@dataclass
class Clock:
    """Time, so that tests need not wait for it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def follow(
    server: Server, run_id: str, patience: float, stuck_after: float, show_logs: bool, clock: Clock | None = None
) -> Any:
    """Watch a run and say what happens; the run, at its end.

    Args:
        patience: seconds for which a server that does not answer is asked again.
        stuck_after: seconds after which the same obstacle ends the watching; the run is left as it is.

    Raises:
        UserError: where the run has been stuck for that long; it says by what.
        Unavailable: where the server did not answer for longer than `patience`.
    """
    clock = clock or Clock()
    watched = _Watched(server, run_id, clock)
    while True:
        run = server.patient(lambda: server.runs.run_service_get_run(run_id), patience, clock.now, clock.sleep)
        found = runs.steps(run)
        over = run.state in runs.FINAL
        watched.say_steps(found)
        if show_logs:
            # What cannot be had now is had at the next look.
            with contextlib.suppress(Missing, Unavailable):
                watched.say_logs(run, found)
        if over:
            if run.state == "FAILED":
                watched.say_obstacles(stuck_after=None)
            return run
        if watched.look_is_due():
            watched.say_obstacles(stuck_after)
        clock.sleep(LOOK)


class _Watched:
    """What was said of a run already."""

    def __init__(self, server: Server, run_id: str, clock: Clock) -> None:
        self._server, self._run_id, self._clock = server, run_id, clock
        self._states: dict[str, str] = {}
        self._tails: dict[str, logs.Tail] = {}
        self._told: set[str] = set()  # steps whose log is said to its end
        self._waiting: set[str] = set()  # steps that had not ended at the last look
        self._compiled: dict[str, Any] | None = None
        self._since: dict[str, float] = {}  # obstacle → when it was seen first
        self._looked = clock.now()

    def say_steps(self, found: list[runs.Step]) -> None:
        for step in found:
            if step.words != self._states.get(step.name, "waits"):
                took = f" ({duration(step.seconds)})" if step.state in ("SUCCEEDED", "FAILED") else ""
                log(f"{step.name:<12} {step.words}{took}")
            self._states[step.name] = step.words

    def say_logs(self, run: Any, found: list[runs.Step]) -> None:
        """New lines of the steps that run, and the rest of those that failed or have ended since the last look."""
        for step in found:
            ended = step.state != "RUNNING"
            if not ended:
                # Also after it had ended: the graph that it is in is tried again.
                self._told.discard(step.name)
            if step.name in self._told or step.state in ("", "PENDING", "SKIPPED"):
                continue
            if not ended or step.name in self._waiting or step.state == "FAILED":
                for line in self._lines(run, step, ended):
                    print(f"{step.name:>12} | {line}", flush=True)
            if ended:
                self._told.add(step.name)
        self._waiting = {step.name for step in found if step.name not in self._told}

    def _lines(self, run: Any, step: runs.Step, ended: bool) -> list[str]:
        if self._compiled is None:
            self._compiled = logs.of_version(self._server, run)
        tail = self._tails.setdefault(step.name, logs.Tail(self._server, self._run_id))
        return tail.lines(logs.pods(run, step, self._compiled), ended)

    def look_is_due(self) -> bool:
        """Whether it is time for another look at the pods."""
        return self._clock.now() - self._looked >= LOOK_AT_PODS

    def say_obstacles(self, stuck_after: float | None) -> None:
        """Say what is new among the things that hold the run up.

        Raises:
            UserError: for one that has been there for `stuck_after` seconds.
        """
        self._looked = now = self._clock.now()
        access = self._server.access
        # Details in brackets change while it is the same that holds the run up: how many nodes, which of two reasons.
        found = obstacles.look(access.pods_in, access.context, self._run_id)
        there = {one.what.partition(" (")[0]: one for one in found}
        for obstacle, one in there.items():
            lasts = now - self._since.get(obstacle, now)
            if obstacle not in self._since:
                log(one.what)
            elif one.holds and stuck_after is not None and lasts >= stuck_after:
                raise UserError(
                    f"the run has been stuck for {duration(lasts)}: {one.what}. It is left as it is; follow it again "
                    f"with `status --follow {self._run_id}`, or end it with `cancel {self._run_id}`"
                )
        self._since = {obstacle: self._since.get(obstacle, now) for obstacle in there}
