"""The course of training as TensorBoard reads it: a folder an attempt, one more file of events with each upload.

    <store>/train/<fingerprint>/reports/tensorboard/000150-1a2b3c4d/   the attempt that began after step 150
        events.out.tfevents.1764345600.00000151                       its steps from 151 on

Objects in a store cannot be appended to; TensorBoard reads a folder's files one after another, by name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from components.artifacts import EVENTS
from components.progress import log
from components.storage import Store
from components.train.history import History
from components.train.uploads import OUTAGE_SECONDS, persistently


@dataclass(frozen=True)
class _Step:
    number: int
    time: float  #: when it began, seconds since 1970
    scalars: dict[str, float]


class Events:
    """The events of one attempt at a run with these `reports`, which begins when `done` steps are done."""

    def __init__(self, reports: Store, attempt: str, done: int) -> None:
        self._place = reports.at(EVENTS, f"{done:06d}-{attempt}")
        self._started = int(time.time())
        self._first = self._next = done + 1
        self._times: list[float] = []

    def begin(self) -> None:
        """Note that a step begins now."""
        self._times.append(time.time())

    def upload(self, history: History, patience: float = OUTAGE_SECONDS) -> Callable[[], None]:
        """What writes the steps to the store that `history` has read by now and no call before this one took.

        Args:
            patience: how long a store that went away is waited for, seconds.
        """
        first, self._next = self._next, len(history.losses) + 1
        steps = [
            _Step(
                number,
                self._times[number - self._first],
                {
                    "loss": history.losses[number - 1],
                    "gradient_norm": history.norms[number - 1],
                    "learning_rate": history.rates[number - 1],
                },
            )
            for number in range(first, self._next)
        ]
        return partial(self._put, steps, patience)

    def _put(self, steps: Sequence[_Step], patience: float) -> None:
        if not steps:
            return
        with tempfile.TemporaryDirectory(prefix="events-") as temporary:
            data = _written(steps, Path(temporary)).read_bytes()
        # The attempt's start and not the file's own time, which may go back.
        name = f"events.out.tfevents.{self._started:010d}.{steps[0].number:08d}"
        persistently(lambda: self._place.put_bytes(name, data, "application/octet-stream"), patience)
        if steps[0].number == self._first:
            log(f"curves for TensorBoard: {self._place.uri}")


def _written(steps: Sequence[_Step], folder: Path) -> Path:
    """A file of events below `folder`, one for each step.

    Not by tensorboardX's `SummaryWriter`, which has a thread and a queue for each file: training waits for Python's
    lock each time that one of them has it.
    """
    writer = EventsWriter(str(folder / "events"))
    for step in steps:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in step.scalars.items()]
        writer.write_event(Event(step=step.number, wall_time=step.time, summary=Summary(value=values)))
    writer.close()
    [file] = folder.iterdir()
    return file
