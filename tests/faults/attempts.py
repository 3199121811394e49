"""One attempt at a step, with a fault or without: where it runs, what happens to it, how it ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.faults import chain
from tests.faults.faults import Fault
from tests.faults.process import StepProcess
from tests.faults.world import World
from tests.small_disk import can_mount, mounted

#: Longer than a step waits for a store that has gone away.
_MOST_SECONDS = 180.0
#: Of the largest file that may be written where no disk can be made: a step's log has to fit, too.
_LEAST_FILE = 1 << 16


def attempt(
    world: World, step: str, command: chain.Command, values: Mapping[str, str], inputs: Path, outputs: Path,
    fault: Fault | None = None,
) -> int | None:  # fmt: skip
    """Run a step over the world's line; its exit status, None where it hangs.

    Args:
        inputs, outputs: folders of the runs that its inputs are from, and its outputs belong to.
    """
    with _room(outputs / step, fault) as temporary:
        log = log_of(outputs, step)
        log.write_text("")
        environment = {
            **world.server.environ,
            "STORE_ENDPOINT_URL": world.line.url,
            "TMPDIR": str(temporary),
            "HOME": str(world.folder),
        }
        arguments = command(step, values, inputs, outputs)
        if fault is None:
            return StepProcess(arguments, environment, log).wait(_MOST_SECONDS)
        return _disturbed(world, fault, arguments, environment, log)


def log_of(outputs: Path, step: str) -> Path:
    """What the step's last attempt has printed."""
    return outputs / f"{step}.log"


def _disturbed(world: World, fault: Fault, arguments: list[str], environment: dict[str, str], log: Path) -> int | None:
    process: list[StepProcess] = []
    started = threading.Event()

    def act() -> None:
        started.wait()
        if fault.signal is not None:
            world.line.struck += process[0].kill(fault.signal)
        if fault.away is not None:
            world.line.refuse(fault.away)
            world.line.struck += 1
        if fault.killed is not None:
            world.server.kill(fault.killed)
            world.line.struck += 1

    world.line.disturb(fault.disturbance, act)
    limits = replace(fault.limits, plain=fault.unwritable)
    if fault.disk is not None and not can_mount():
        limits = replace(limits, file_size=max(fault.disk, _LEAST_FILE))
    process.append(StepProcess(arguments, environment, log, limits))
    started.set()
    timer = threading.Timer(fault.after, act) if fault.after is not None else None
    if timer is not None:
        timer.start()
    status = process[0].wait(_MOST_SECONDS)
    if timer is not None:
        timer.cancel()
        timer.join()
    return status


@contextlib.contextmanager
def _room(place: Path, fault: Fault | None) -> Iterator[Path]:
    """Make the folder of a step's outputs, as the fault wants it; the folder of temporary files in it."""
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / "tmp"
    if fault is not None and fault.disk is not None and can_mount():
        with mounted(place, fault.disk):
            temporary.mkdir()
            yield temporary
        return
    temporary.mkdir(exist_ok=True)
    place.chmod(0o555 if fault is not None and fault.unwritable else 0o755)
    try:
        yield temporary
    finally:
        place.chmod(0o755)
