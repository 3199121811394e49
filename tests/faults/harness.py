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
import io
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore
from tests.faults import chain, judge
from tests.faults.faults import KINDS, Fault, Trace
from tests.faults.line import Line
from tests.faults.process import StepProcess, warm_up
from tests.tiny_model import write_pipeline

#: Longer than a step waits for a store that has gone away.
_MOST_SECONDS = 180.0
_ATTEMPTS = 3
_MODEL = "boards"


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


class Server:
    """The embedded store, which can be killed and comes back."""

    def __init__(self, folder: Path) -> None:
        self._store = EmbeddedStore(folder)
        self._store.__enter__()
        self.environ, self.uri = dict(self._store.environ), self._store.uri
        self._back: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._store.pid

    def kill(self, seconds: float) -> None:
        """Kill the process, and start another one on the same folder and ports in a while."""
        os.kill(self._store.pid, 9)

        def again() -> None:
            self._store.__exit__(None, None, None)
            time.sleep(seconds)
            self._store.__enter__()

        self._back = threading.Thread(target=again)
        self._back.start()

    def settled(self) -> None:
        """Wait until it is up again."""
        if self._back is not None:
            self._back.join()
            self._back = None
        if self._store.environ != self.environ:
            raise RuntimeError("the store came back on another port")

    def close(self) -> None:
        self.settled()
        self._store.__exit__(None, None, None)


class Harness:
    """A store, a line to it, a tiny model, and the undisturbed run that others are held against.

    Args:
        folder: empty; everything is in it.
        until: the last step of the undisturbed run, where only single steps up to it are to be disturbed.
    """

    def __init__(self, folder: Path, until: str = chain.STEPS[-1]) -> None:
        self.folder, self.made = folder, folder / "undisturbed"
        self._steps = chain.STEPS[: chain.STEPS.index(until) + 1]
        self.server = Server(folder / "store")
        self._line = Line(self.server.environ["STORE_ENDPOINT_URL"])
        self.store = Store.from_env(f"{self.server.uri}/faults", self.server.environ)
        self._runs = 0
        base = write_pipeline(folder / "base", widths=(8, 16, 16, 16))
        self._values = {
            "dataset": self.store.uri_of("datasets/raw"),
            "base_model": str(base),
            "model_name": _MODEL,
            "store": self.store.uri,
        }
        write_boards(self.store.at("datasets/raw"))
        warm_up()
        self.stages = self._undisturbed()

    def close(self) -> None:
        self._line.close()
        self.server.close()

    # ------------------------------------------------------------------------------------- undisturbed

    def _undisturbed(self) -> dict[str, Stage]:
        stages, values, made = {}, dict(self._values), self.made
        for step in self._steps:
            before, started = self._saved(), time.monotonic()
            self._line.disturb(None)
            status = self._attempt(step, values, made, made, None, chain.as_kfp)
            log = self._log(made, step).read_text()
            if status != 0:
                raise RuntimeError(f"{step}, undisturbed, ended with {status}:\n{log}")
            size = sum(path.stat().st_size for path in (made / step).rglob("*") if path.is_file())
            trace = Trace(tuple(self._line.exchanges), time.monotonic() - started, size if chain.OUTPUTS[step] else 0)
            given = dict(values)
            values |= self._seen(step, made)
            result = judge.result(step, made, values, self.store)
            after = self._saved()
            self._collect_garbage()
            stages[step] = Stage(before, given, trace, result, judge.contents(self.store))
            self._restore(after)
        return stages

    def _seen(self, step: str, made: Path) -> dict[str, str]:
        """Snapshot's output parameters, from a call of either kind."""
        if step != "snapshot":
            return {}
        file = chain.executor_output(made, step)
        known = file.exists()
        found = json.loads(file.read_text())["parameterValues"] if known else chain.printed(self._log(made, step))
        return {name: found[name] for name in chain.SEEN}

    def _saved(self) -> dict[str, bytes]:
        return {
            info.key: self.store.get_bytes(info.key) or b""
            for info in self.store.list()
            if not info.key.startswith("leases/")
        }

    def before(self, step: str) -> None:
        """Have the store as it was before a step of the undisturbed run."""
        self._restore(self.stages[step].before)

    def _restore(self, contents: dict[str, bytes]) -> None:
        self.store.delete_tree()
        for key, data in contents.items():
            self.store.put_bytes(key, data)

    # --------------------------------------------------------------------------------------- disturbed

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
            able = [s for s in chain.STEPS if s not in faults and KINDS[kind](random, self.stages[s].trace)]
            step = random.choice(able)
            fault = KINDS[kind](random, self.stages[step].trace)
            assert fault is not None
            faults[step] = fault
        run = Run("pipeline", list(faults.items()))
        with self._judged(run, chain.STEPS[-1]) as folder:
            self.before("snapshot")
            values = dict(self._values)
            for step in chain.STEPS:
                self._through(run, step, values, folder, folder, faults.get(step), chain.as_kfp)
                if run.findings:
                    break
                values |= self._seen(step, folder)
        return run

    def _through(
        self, run: Run, step: str, values: dict[str, str], inputs: Path, outputs: Path, fault: Fault | None,
        command: chain.Command,
    ) -> None:  # fmt: skip
        """Bring a step to its end, attempt after attempt."""
        self._line.disturb(None)
        before = judge.committed(self.store)
        for number in range(_ATTEMPTS):
            status = self._attempt(step, values, inputs, outputs, fault if number == 0 else None, command)
            run.statuses.append((step, status))
            self.server.settled()
            if number == 0 and fault is not None:
                run.struck = run.struck or self._line.struck > 0 or status != 0 or fault.limits.jump is not None
            self._hold_to_its_word(run, step, status, fault if number == 0 else None, outputs)
            if status != 0:
                run.findings += judge.unsound(self.store)
            run.findings += judge.lost(self.store)
            now = judge.committed(self.store)
            run.findings += [f"{step}: {place} was committed and is gone" for place in sorted(before - now)]
            before = now
            if run.findings:
                return
            if status == 0:
                found = judge.result(step, outputs, {**values, **self._seen(step, outputs)}, self.store)
                if found != self.stages[step].result:
                    run.findings.append(f"{step}: another result: {_difference(self.stages[step].result, found)}")
                return
            run.outcome = "refused" if status == 2 else "tried again" if run.outcome != "refused" else run.outcome
            self._line.disturb(None)
        run.findings.append(f"{step}: did not succeed in {_ATTEMPTS} attempts, the last ones undisturbed")

    def _hold_to_its_word(self, run: Run, step: str, status: int | None, fault: Fault | None, outputs: Path) -> None:
        """Look at how a step ended."""
        log = self._log(outputs, step).read_text(errors="replace") if self._log(outputs, step).exists() else ""
        if status is None:
            run.findings.append(f"{step}: hangs:\n{log[-6000:]}")
            return
        if fault is not None and fault.limits.memory is not None:
            # Whatever a process does that gets no memory: what it leaves behind is what counts.
            return
        if fault is not None and fault.signal is not None and status in (-fault.signal, 128 + fault.signal):
            return
        if "Traceback" in log or status not in (0, 2, 75):
            run.findings.append(f"{step}: ended with {status}:\n{log[-3000:]}")
        elif status and not log.rstrip().splitlines()[-1].startswith(f"error: {step}: "):
            run.findings.append(f"{step}: ended with {status} and no message of one line:\n{log[-2000:]}")

    @contextlib.contextmanager
    def _judged(self, run: Run, last: str) -> Iterator[Path]:
        self._runs += 1
        folder, started = self.folder / f"run-{self._runs:03d}", time.monotonic()
        try:
            yield folder
        finally:
            self._line.disturb(None)
            self.server.settled()
        if not run.findings:
            run.findings += [said for said in [self._collect_garbage()] if said]
            left, wanted = judge.contents(self.store), self.stages[last].left
            run.findings += [f"clean-up leaves {key}" for key in sorted(left - wanted)]
            run.findings += [f"clean-up took {key}" for key in sorted(wanted - left)]
            run.findings += judge.unsound(self.store)
        run.seconds = time.monotonic() - started
        if not run.findings:
            shutil.rmtree(folder, ignore_errors=True)

    def _collect_garbage(self) -> str:
        return judge.collect_garbage(self.store, self.server.environ)

    def _attempt(
        self, step: str, values: dict[str, str], inputs: Path, outputs: Path, fault: Fault | None,
        command: chain.Command,
    ) -> int | None:  # fmt: skip
        """Run the step once; its exit status, None where it hangs."""
        with self._disk(outputs / step, fault) as room:
            log = self._log(outputs, step)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
            temporary = room / "tmp"
            temporary.mkdir(exist_ok=True)
            temporary.chmod(0o777)
            environment = {
                **self.server.environ, "STORE_ENDPOINT_URL": self._line.url, "TMPDIR": str(temporary),
                "HOME": str(self.folder),
            }  # fmt: skip
            arguments = command(step, values, inputs, outputs)
            if fault is None:
                return StepProcess(arguments, environment, log).wait(_MOST_SECONDS)
            return self._disturbed(fault, arguments, environment, log)

    def _disturbed(self, fault: Fault, arguments: list[str], environment: dict[str, str], log: Path) -> int | None:
        started: list[StepProcess] = []

        def act() -> None:
            if fault.signal is not None and started:
                started[0].kill(fault.signal)
            if fault.away is not None:
                self._line.refuse(fault.away)
                self._line.struck += 1
            if fault.killed is not None:
                self.server.kill(fault.killed)
                self._line.struck += 1

        self._line.disturb(fault.disturbance, act)
        limits = replace(fault.limits, plain=fault.unwritable)
        started.append(StepProcess(arguments, environment, log, limits))
        timer = threading.Timer(fault.after, act) if fault.after is not None else None
        if timer is not None:
            timer.start()
        status = started[0].wait(_MOST_SECONDS)
        if timer is not None:
            timer.cancel()
            timer.join()
        return status

    @contextlib.contextmanager
    def _disk(self, room: Path, fault: Fault | None) -> Iterator[Path]:
        """The folder of a step's outputs and temporary files: on a small disk, or not to be written, by `fault`."""
        room.mkdir(parents=True, exist_ok=True)
        if fault is not None and fault.disk is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={fault.disk}", "none", str(room)], check=True)
            try:
                yield room
            finally:
                subprocess.run(["umount", "--lazy", str(room)], check=True)
        elif fault is not None and fault.unwritable:
            room.chmod(0o555)
            try:
                yield room
            finally:
                room.chmod(0o755)
        else:
            yield room

    @staticmethod
    def _log(outputs: Path, step: str) -> Path:
        return outputs / f"{step}.log"


def write_boards(place: Store, images: int = 16, side: int = 96, boxes: int = 1) -> None:
    """A data set of noise with as many boxes on each image, in rows of 24 pixels, and a table of them."""
    random, per_row = np.random.default_rng(0), side // 24
    rows = ["image,class,x0,y0,x1,y1"]
    for number in range(images):
        data = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(data, "png")
        place.put_bytes(f"{number:05d}.png", data.getvalue())
        corners = [(24 * (box % per_row) + 4, 24 * (box // per_row) + 4) for box in range(boxes)]
        rows += [f"{number:05d}.png,pin-hole,{x},{y},{x + 16},{y + 16}" for x, y in corners]
    place.put_bytes("annotations.csv", "\n".join(rows).encode())


def _difference(wanted: Any, found: Any, place: str = "") -> str:
    """Where two results first differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                return _difference(wanted.get(name), found.get(name), f"{place}/{name}")
    return f"{place}: {str(found)[:200]} instead of {str(wanted)[:200]}"
