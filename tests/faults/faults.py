"""The kinds of faults, each a function of chance and of what the undisturbed step did.

Moments are drawn among the step's own: an exchange with the store, by its number, or a time since it began.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.faults.line import Disturbance, Exchange, Kind
from tests.faults.process import Limits


@dataclass(frozen=True)
class Trace:
    """What a step does when nothing disturbs it."""

    exchanges: Sequence[Exchange]
    seconds: float
    output_bytes: int

    def fitting(self, kind: Kind) -> int:
        """How many exchanges can be disturbed so."""
        what = Disturbance(kind, 0)
        return sum(what.fits(exchange.method, exchange.sent) for exchange in self.exchanges)


@dataclass(frozen=True)
class Fault:
    """What is going to happen to a step, and when."""

    kind: str
    disturbance: Disturbance | None = None  #: on the line; of kind "call" for what happens at an exchange's moment
    after: float | None = None  #: seconds since the start, for what happens then
    signal: int | None = None  #: sent to the process
    away: float | None = None  #: seconds for which the line refuses connections
    killed: float | None = None  #: seconds after which the store's process, killed, is started again
    disk: int | None = None  #: bytes of the disk for outputs and temporary files
    unwritable: bool = False  #: whether outputs may not be written
    limits: Limits = field(default_factory=Limits)


Draw = Callable[[Random, Trace], "Fault | None"]


def _exchanges(kind: str, how: Kind, **chances: Callable[[Random], float | int]) -> Draw:
    def draw(random: Random, trace: Trace) -> Fault | None:
        count = trace.fitting(how)
        if not count:
            return None
        given: dict[str, float | int] = {name: chance(random) for name, chance in chances.items()}
        return Fault(kind, Disturbance(how, random.randrange(count), **given))  # type: ignore[arg-type]

    return draw


def _at_some_moment(make: Callable[[Random], Fault]) -> Draw:
    """At an exchange or a time, one as often as the other."""

    def draw(random: Random, trace: Trace) -> Fault:
        fault = make(random)
        if trace.exchanges and random.random() < 0.5:
            moment = Disturbance("call", random.randrange(len(trace.exchanges)))
            return replace(fault, disturbance=moment)
        # Not up to its end: another time it may be quicker.
        return replace(fault, after=random.uniform(0, 0.7 * trace.seconds))

    return draw


def _flip(kind: Kind) -> Draw:
    return _exchanges(kind, kind, where=lambda r: r.random(), bit=lambda r: r.randrange(8))


def _reset(random: Random, trace: Trace) -> Fault | None:
    how: Kind = random.choice(("reset", "lost answer"))
    return _exchanges("reset", how, times=lambda r: r.randint(1, 3))(random, trace)


def _disk(random: Random, trace: Trace) -> Fault | None:
    if not trace.output_bytes:
        return None
    # Small against what it writes; a page at least, or nothing can be mounted.
    return Fault("full disk", disk=max(4096, int(trace.output_bytes * random.uniform(0, 0.9))))


def _permission(random: Random, trace: Trace) -> Fault | None:
    return Fault("no permission", unwritable=True) if trace.output_bytes else None


def _memory(random: Random, trace: Trace) -> Fault:
    return Fault("memory", limits=Limits(memory=int(1e6 * 10 ** random.uniform(0, 2))))


def _clock(random: Random, trace: Trace) -> Fault:
    seconds = random.choice((1, -1)) * random.choice((90.0, 3600.0, 400 * 86400.0))
    return Fault("clock", limits=Limits(jump=(random.uniform(0, trace.seconds), seconds)))


#: In the order of the table.
KINDS: dict[str, Draw] = {
    "SIGKILL": _at_some_moment(lambda random: Fault("SIGKILL", signal=signal.SIGKILL)),
    "SIGTERM": _at_some_moment(lambda random: Fault("SIGTERM", signal=signal.SIGTERM)),
    "refuse": _at_some_moment(lambda random: Fault("refuse", away=random.uniform(0.3, 6))),
    "stall": _exchanges("stall", "stall", seconds=lambda r: r.uniform(0.5, 4)),
    "reset": _reset,
    "busy": _exchanges("busy", "busy", status=lambda r: r.choice((500, 503, 429)), times=lambda r: r.randint(1, 8)),
    "truncate": _exchanges("truncate", "truncate", where=lambda r: r.random(), times=lambda r: r.randint(1, 3)),
    "flip answer": _flip("flip answer"),
    "flip request": _flip("flip request"),
    "store killed": _at_some_moment(lambda random: Fault("store killed", killed=random.uniform(0, 4))),
    "full disk": _disk,
    "no permission": _permission,
    "memory": _memory,
    "clock": _clock,
}
