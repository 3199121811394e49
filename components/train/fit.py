"""Training to the end: steps, and beside them checkpoints, states, SIGTERM and progress."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from components.progress import Progress, log
from components.train.events import Events
from components.train.history import History
from components.train.interruption import termination
from components.train.loop import Trainer
from components.train.run import Run
from components.train.snapshot import Snapshot
from components.train.uploads import Uploads


@dataclass
class Timing:
    """Where an attempt's time went."""

    steps: int = 0
    seconds: float = 0.0  #: in all
    upload_wait: float = 0.0  #: of them, waiting for uploads


def fit(trainer: Trainer, run: Run, history: History, events: Events, timing: Timing) -> None:
    """Train from where `trainer` is to the end; `history`, `events` and `timing` go on, `run` publishes.

    Raises:
        Diverged: when the loss, or a weight to publish, is no number or explodes.
        SystemExit: after a SIGTERM, with a state saved where the settings want states.
    """
    config = trainer.config
    progress = Progress("training", config.max_train_steps)
    progress.begin(trainer.done)
    due = _states_due(config.state_every, config.state_every_minutes)
    with _timed(trainer, timing), trainer.feed, termination() as asked, Uploads() as uploads:
        while trainer.done < config.max_train_steps:
            rate = trainer.scheduler.get_last_lr()[0]
            events.begin()
            history.add(*trainer.step(), rate)
            last, ending = trainer.done == config.max_train_steps, asked()
            publish = trainer.done % config.checkpointing_steps == 0 or last
            save = not last and (due(trainer.done) or (ending and config.saves_states))
            uploads.check()
            if publish or save or progress.due() or ending:
                history.read()
                progress.update(trainer.done, loss=history.recent_loss(), learning_rate=rate)
            if publish or save:
                uploads.ready()
                snapshot = trainer.snapshot(publish, save)
                # The events first: a checkpoint's weights may turn out to be no numbers.
                uploads.submit(events.upload(history), upload(run, trainer, snapshot, history.data()))
            timing.upload_wait = uploads.waited
            if ending and not last:
                uploads.ready()
                log(f"train: asked to end at step {trainer.done}" + (", state saved" if save else ""))
                raise SystemExit(128 + signal.SIGTERM)


def follow(trainer: Trainer, after_step: Callable[[], None]) -> None:
    """Train to the end beside the main process, which does all the rest."""
    with trainer.feed:
        while trainer.done < trainer.config.max_train_steps:
            trainer.step()
            after_step()


@contextlib.contextmanager
def _timed(trainer: Trainer, timing: Timing) -> Iterator[None]:
    first, started = trainer.done, time.monotonic()
    try:
        yield
    finally:
        timing.steps, timing.seconds = trainer.done - first, time.monotonic() - started


def upload(run: Run, trainer: Trainer, snapshot: Snapshot, history: dict[str, list[float]]) -> Callable[[], None]:
    """What the uploads' thread does with a snapshot."""

    def job() -> None:
        if snapshot.publish:
            run.publish(snapshot, trainer.base.configs, trainer.config)
        if snapshot.state is not None:
            run.save(snapshot, history)

    return job


def _states_due(steps: int, minutes: float) -> Callable[[int], bool]:
    """Whether a state is due after a step: every so many steps, or so many minutes after the last one."""
    saved = time.monotonic()

    def due(step: int) -> bool:
        nonlocal saved
        now = time.monotonic()
        if (steps and step % steps == 0) or (minutes and now - saved >= minutes * 60):
            saved = now
            return True
        return False

    return due
