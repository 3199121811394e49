"""Runs that are disturbed: single steps and the whole chain, tried again as KFP would, and judged.

A run ends well in one of three ways, each with the very result of an undisturbed run:

    went on         the step was disturbed and went on by itself
    tried again     it was killed, or ended with 75 (try again), and the next attempt succeeded
    refused         it ended with 2 and one message; with the cause gone, the same command succeeded

Anything else is a finding: a traceback, a hang, another result, something that readers would stumble over, a lost
checkpoint, an object that clean-up does not find.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from components.images import STEPS
from tests.faults import chain, judge
from tests.faults.attempts import attempt, log_of
from tests.faults.faults import KINDS, Fault, Trace
from tests.faults.world import World

_ATTEMPTS = 3


@dataclass(frozen=True)
class Stage:
    """The world before a step of the undisturbed run, and what the step then did and made."""

    before: dict[str, bytes]  #: key → object
    values: dict[str, str]
    trace: Trace
    result: dict[str, Any]
    left: set[str]  #: general keys after the step and a clean-up


@dataclass
class Run:
    """A disturbed run."""

    what: str  #: a step, or "pipeline"
    faults: list[tuple[str, Fault]]
    statuses: list[tuple[str, int | None]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    struck: bool = False
    outcome: str = "went on"
    seconds: float = 0.0


class Harness:
    """Runs in a world of their own, and the undisturbed run that they are held against.

    Args:
        folder: empty; everything is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.world, self.made = World(folder), folder / "undisturbed"
        self._store, self._runs = self.world.store, 0
        self.stages: dict[str, Stage] = {}
        values = dict(self.world.values)
        for step in STEPS:
            self.stages[step] = self._undisturbed(step, dict(values))
            values |= seen(step, self.made)

    def close(self) -> None:
        self.world.close()

    def before(self, step: str) -> None:
        """Have the store as it was before a step of the undisturbed run."""
        self.world.restore(self.stages[step].before)

    def _undisturbed(self, step: str, values: dict[str, str]) -> Stage:
        before, started = self.world.saved(), time.monotonic()
        self.world.undisturbed()
        status = attempt(self.world, step, chain.as_kfp, values, self.made, self.made)
        if status != 0:
            raise RuntimeError(f"{step}, undisturbed, ended with {status}:\n{log_of(self.made, step).read_text()}")
        files = [path for name in chain.OUTPUTS[step] for path in _files(chain.output(self.made, step, name))]
        size = sum(path.stat().st_size for path in files)
        trace = Trace(tuple(self.world.line.exchanges), time.monotonic() - started, size)
        result = judge.result(step, self.made, {**values, **seen(step, self.made)}, self._store)
        after = self.world.saved()
        judge.collect_garbage(self._store, self.world.server.environ)
        left = judge.contents(self._store)
        self.world.restore(after)
        return Stage(before, values, trace, result, left)

    def single(self, step: str, kind: str, random: Random) -> Run | None:
        """One step, as a user calls it, with one fault; None where this kind cannot happen to it."""
        fault = KINDS[kind](random, self.stages[step].trace)
        if fault is None:
            return None
        run = Run(step, [(step, fault)])
        with self._judged(run, step) as folder:
            self.before(step)
            self._through(run, step, self.stages[step].values, self.made, folder, fault, chain.as_user)
        return run

    def pipeline(self, kinds: list[str], random: Random) -> Run:
        """The whole chain, as KFP calls it, with each of the faults in a step of chance's choice."""
        faults: dict[str, Fault] = {}
        for kind in kinds:
            able = [s for s in STEPS if s not in faults and KINDS[kind](random, self.stages[s].trace)]
            step = random.choice(able)
            fault = KINDS[kind](random, self.stages[step].trace)
            assert fault is not None
            faults[step] = fault
        run = Run("pipeline", list(faults.items()))
        with self._judged(run, STEPS[-1]) as folder:
            self.before("snapshot")
            values = dict(self.world.values)
            for step in STEPS:
                self._through(run, step, values, folder, folder, faults.get(step), chain.as_kfp)
                if run.findings:
                    break
                values |= seen(step, folder)
        return run

    def _through(
        self, run: Run, step: str, values: dict[str, str], inputs: Path, outputs: Path, fault: Fault | None,
        command: chain.Command,
    ) -> None:  # fmt: skip
        """Bring a step to its end, attempt after attempt."""
        self.world.line.disturb(None)
        before = judge.committed(self._store)
        for number in range(_ATTEMPTS):
            disturbing = fault if number == 0 else None
            began = time.monotonic()
            status = attempt(self.world, step, command, values, inputs, outputs, disturbing)
            took = time.monotonic() - began
            run.statuses.append((step, status))
            self.world.server.settled()
            if disturbing is not None:
                jump = disturbing.limits.jump
                run.struck |= self.world.line.struck > 0 or status != 0 or (jump is not None and took > jump[0])
            self._hold_to_its_word(run, step, status, disturbing, outputs)
            if status != 0:
                run.findings += judge.unsound(self._store)
            run.findings += judge.lost(self._store)
            now = judge.committed(self._store)
            run.findings += [f"{step}: {place} was committed and is gone" for place in sorted(before - now)]
            before = now
            if run.findings:
                return
            if status == 0:
                found = judge.result(step, outputs, {**values, **seen(step, outputs)}, self._store)
                if found != self.stages[step].result:
                    run.findings.append(f"{step}: another result: {_difference(self.stages[step].result, found)}")
                return
            run.outcome = "refused" if status == 2 else "tried again" if run.outcome != "refused" else run.outcome
            self.world.line.disturb(None)
        run.findings.append(f"{step}: did not succeed in {_ATTEMPTS} attempts, the last ones undisturbed")

    def _hold_to_its_word(self, run: Run, step: str, status: int | None, fault: Fault | None, outputs: Path) -> None:
        """Look at how a step ended."""
        log = log_of(outputs, step).read_text(errors="replace")
        if status is None:
            run.findings.append(f"{step}: hangs:\n{log[-6000:]}")
            return
        if fault is not None and fault.limits.memory is not None and _was_silenced(status, log):
            return
        if fault is not None and fault.signal is not None and status in (-fault.signal, 128 + fault.signal):
            return
        if "Traceback" in log or status not in (0, 2, 75):
            run.findings.append(f"{step}: ended with {status}:\n{log[-3000:]}")
        elif status and not _speaks(step, log):
            run.findings.append(f"{step}: ended with {status} and no message in the end:\n{log[-2000:]}")

    @contextlib.contextmanager
    def _judged(self, run: Run, last: str) -> Iterator[Path]:
        self._runs += 1
        folder, started = self.world.folder / f"run-{self._runs:03d}", time.monotonic()
        try:
            yield folder
        finally:
            self.world.undisturbed()
        if not run.findings:
            said = judge.collect_garbage(self._store, self.world.server.environ)
            run.findings += [said] if said else []
            left, wanted = judge.contents(self._store), self.stages[last].left
            run.findings += [f"clean-up leaves {key}" for key in sorted(left - wanted)]
            run.findings += [f"clean-up took {key}" for key in sorted(wanted - left)]
            run.findings += judge.unsound(self._store)
        run.seconds = time.monotonic() - started
        if not run.findings:
            shutil.rmtree(folder, ignore_errors=True)


def _speaks(step: str, log: str) -> bool:
    """Whether a log ends with a message: a line, or one for each of several problems below it."""
    lines = log.rstrip().splitlines()
    while lines and lines[-1].startswith("  - "):
        lines.pop()
    return bool(lines) and lines[-1].startswith(f"error: {step}: ")


def _was_silenced(status: int, log: str) -> bool:
    """Whether a process without memory was ended by a library or a signal, and could not say what it ended for."""
    last = (log.rstrip().splitlines() or [""])[-1]
    # C++ aborts where it cannot throw, and OpenMP exits where it cannot start a thread.
    return status < 0 or (status == 1 and last.startswith("libgomp: "))


def seen(step: str, made: Path) -> dict[str, str]:
    """Snapshot's output parameters, from a call of either kind."""
    if step != "snapshot":
        return {}
    file = chain.executor_output(made, step)
    known = file.exists()
    found = json.loads(file.read_text())["parameterValues"] if known else chain.printed(log_of(made, step))
    return {name: found[name] for name in chain.SEEN}


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def _difference(wanted: Any, found: Any, place: str = "") -> str:
    """Where two results first differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                return _difference(wanted.get(name), found.get(name), f"{place}/{name}")
    return f"{place}: {str(found)[:200]} instead of {str(wanted)[:200]}"
