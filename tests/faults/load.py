"""``python -m tests.faults.load``: much at once against one store, and what it takes.

Steps run as their containers do. Memory is a process's largest resident set, open files and threads the most that were
seen at a time. A fork of the process that has the libraries loaded counts with all that it shares. Each row has a
bound, about twice what was measured, with what it may grow by for each object: what takes more fails the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from components.images import STEPS
from components.progress import duration, size
from components.storage import MANIFEST
from tests.faults import chain, judge
from tests.faults.harness import Harness, seen
from tests.faults.process import StepProcess
from tests.faults.world import write_boards

_MOST_SECONDS = 3000.0
#: Pipelines for each processor: most of a step's time is the processor's, and the store needs some, too.
_AT_A_TIME = 4


@dataclass
class Peak:
    """The most that processes took: of memory, open files and threads, each the largest of one process."""

    memory: int = 0
    files: int = 0
    threads: int = 0

    def look(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            self.memory = max(self.memory, int(status.get("VmHWM", "0").split()[0]) * 1024)
            self.threads = max(self.threads, int(status["Threads"]))
            self.files = max(self.files, len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 - a count of names


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    seconds: float
    peak: Peak
    most: Peak  #: what it may take

    def excesses(self) -> list[str]:
        """What it took too much of, or was not seen to take at all."""
        found = []
        for name, took in vars(self.peak).items():
            most = getattr(self.most, name)
            if not 0 < took <= most:
                shown = (size(took), size(most)) if name == "memory" else (took, most)
                found.append(f"{self.what}: {name} {shown[0]}, and at most {shown[1]} were expected")
        return found

    def __str__(self) -> str:
        peak = self.peak
        return f"| {self.what} | {duration(self.seconds)} | {size(peak.memory)} | {peak.files} | {peak.threads} |"


#: A step's process: the libraries, the tiny model, a pool of connections; with a measured share for each crop.
_STEP = Peak(memory=1_000_000_000, files=64, threads=32)
#: A process that has no more than the store's client loaded.
_CLIENT = Peak(memory=130_000_000, files=64, threads=32)
#: The embedded store: Go's runtime is told to stay below 384 MiB of its own.
_SERVER = Peak(memory=1_000_000_000, files=1024, threads=64)


def _growing(base: Peak, count: int, each: int) -> Peak:
    """`base`, with so many bytes of memory more for each of `count` things."""
    return replace(base, memory=base.memory + count * each)


class Load:
    """Loads on one store, each measured."""

    def __init__(self, harness: Harness) -> None:
        self._harness, self._store = harness, harness.world.store
        self._environment = {**harness.world.server.environ, "HOME": str(harness.world.folder)}

    def rows(self, counts: Mapping[str, int]) -> Iterator[Row]:
        """Each load, by the name of its method, with its count; none where that is 0."""
        for name, count in counts.items():
            if count:
                yield from getattr(self, name)(count)
        yield self.server()

    def runs(self, count: int) -> Iterator[Row]:
        """Trainers and publishers, so many at once; a quarter of them are of different runs and descriptions."""
        for step, setting in (("train", "seed"), ("convert", "description")):
            self._harness.before(step)
            kinds = max(1, count // 4)
            folders = [self._harness.world.folder / f"load-{step}-{n}" for n in range(count)]
            extra = [["--set", f"{setting}={'' if step == 'train' else 'd'}{n % kinds}"] for n in range(count)]
            row = self._steps(f"{count} × {step} at once, {kinds} different", step, folders, extra)
            self._expect_sound()
            yield row
        complete = [info.key for info in self._store.list("models/") if info.key.endswith(MANIFEST)]
        print(f"    {len(complete)} versions published", flush=True)

    def pipelines(self, count: int) -> Iterator[Row]:
        """Whole runs, a quarter of them different, as many at a time as the processors get through."""
        self._harness.before("snapshot")
        kinds, at_a_time = max(1, count // 4), min(count, _AT_A_TIME * (os.cpu_count() or 1))
        running: list[int] = []
        started = time.monotonic()
        with _watched(running) as peak, ThreadPoolExecutor(at_a_time) as pool:
            trained = list(pool.map(lambda n: self._whole(n, n % kinds, running), range(count)))
        if [trained[:kinds].count(each) for each in trained] != [1] * count:
            raise RuntimeError(f"{count} pipelines, {kinds} different: the same runs have not made the same models")
        self._expect_sound()
        yield Row(
            f"{count} pipelines, {kinds} different, {at_a_time} at a time", time.monotonic() - started, peak, _STEP
        )

    def _whole(self, number: int, seed: int, running: list[int]) -> str:
        """A run of the pipeline, as KFP calls its steps; what it trained and published, by its tensors."""
        folder, values = self._harness.world.folder / f"load-pipeline-{number}", dict(self._harness.world.values)
        for step in STEPS:
            (folder / step).mkdir(parents=True)
            settings = {"seed": seed} if step == "train" else {}
            arguments = chain.as_kfp(step, values, folder, folder, settings)
            process = StepProcess(arguments, self._environment, folder / f"{step}.log")
            running.append(process.pid)
            self._expect_success(f"pipeline {number}: {step}", process.wait(_MOST_SECONDS), folder / f"{step}.log")
            running.remove(process.pid)
            values |= seen(step, folder)
        made = [judge.result(step, folder, values, self._store) for step in ("train", "convert")]
        return json.dumps(made, sort_keys=True)

    def crops(self, count: int) -> Iterator[Row]:
        """A data set in the store with so many boxes: snapshot and crop; the crops as a tree in the store."""
        boxes = 20
        place = self._store.at("datasets/many")
        write_boards(place, images=count // boxes, side=120, boxes=boxes)
        values = {**self._harness.stages["crop"].values, "dataset": place.uri, "dataset_revision": "unknown"}
        folder = self._harness.world.folder / "load-crops"
        without = ["--set", "max_train_per_class=null", "--set", "max_reference_per_class=null"]
        for step, extra in (("snapshot", []), ("crop", without)):
            what = f"{step}: {count // boxes} images, {count} crops"
            yield self._steps(what, step, [folder], [extra], values, most=_growing(_STEP, count, 8_000))
        tree = self._store.at("load/crops")
        made = chain.output(folder, "crop", "crops")
        most = _growing(_CLIENT, count, 6_000)
        send = f"store.at('load/crops').put_tree(Path({str(made)!r}))"
        yield self._here(f"{count} crops sent as a tree", send, most)
        fetch = f"store.at('load/crops').get_tree(Path({str(made) + '-back'!r}))"
        yield self._here(f"{count} crops fetched", fetch, most)
        tree.delete_tree()
        place.delete_tree()

    def checkpoints(self, count: int) -> Iterator[Row]:
        """One run with so many checkpoints, trained and evaluated."""
        self._harness.before("train")
        folder, steps = self._harness.world.folder / "load-checkpoints", ["--set", f"max_train_steps={count}"]
        often = [*steps, "--set", "checkpointing_steps=1", "--set", "state_every=0"]
        most = _growing(_STEP, count, 5_000_000)
        yield self._steps(f"train: {count} checkpoints", "train", [folder], [often])
        (folder / "crop").symlink_to(self._harness.made / "crop")
        yield self._steps(f"evaluate: {count + 1} checkpoints", "evaluate", [folder], [[]], inputs=folder, most=most)

    def objects(self, count: int) -> Iterator[Row]:
        """So many objects: a listing, a clean-up's plan, and the clean-up."""
        place = self._store.at("features/many")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: place.put_bytes(f"{n:06d}", b"x"), range(count)))
        listed = "sum(1 for _ in store.at('features/many').list())"
        yield self._here(f"listing of {count} objects", f"assert {listed} == {count}", _CLIENT)
        gc = [sys.executable, "-m", "pipelines", "gc", "--store", self._store.uri, "--unpublished", "0", "--grace", "0"]
        most = _growing(_CLIENT, count, 2_000)
        yield self._command(f"gc --dry-run of {count} objects", [*gc, "--dry-run"], most)
        yield self._command(f"gc of {count} objects", gc, most)
        left = sum(1 for _ in place.list())
        if left:
            raise RuntimeError(f"clean-up has left {left} objects")

    def server(self) -> Row:
        """What the store's own process has taken."""
        peak = Peak()
        peak.look(self._harness.world.server.pid)
        return Row("the embedded store, at the end", 0.0, peak, _SERVER)

    def _steps(
        self, what: str, step: str, folders: Sequence[Path], extra: Sequence[list[str]],
        values: dict[str, str] | None = None, inputs: Path | None = None, most: Peak = _STEP,
    ) -> Row:  # fmt: skip
        values = values or self._harness.stages[step].values
        started, processes = time.monotonic(), []
        for folder, more in zip(folders, extra):
            folder.mkdir(parents=True, exist_ok=True)
            arguments = [*chain.as_user(step, values, inputs or self._harness.made, folder), *more]
            processes.append(StepProcess(arguments, self._environment, folder / f"{step}.log"))
        with _watched([process.pid for process in processes]) as peak:
            statuses = [process.wait(_MOST_SECONDS) for process in processes]
        for folder, status in zip(folders, statuses):
            self._expect_success(what, status, folder / f"{step}.log")
        return Row(what, time.monotonic() - started, peak, most)

    def _expect_success(self, what: str, status: int | None, log: Path) -> None:
        if status != 0:
            raise RuntimeError(f"{what}: ended with {status}:\n{log.read_text()[-3000:]}")

    def _here(self, what: str, code: str, most: Peak) -> Row:
        """Some lines with `store`, in a process of their own."""
        head = "from pathlib import Path; from components.storage import Store\n"
        program = f"{head}store = Store.from_env({self._store.uri!r})\n{code}"
        return self._command(what, [sys.executable, "-c", program], most)

    def _command(self, what: str, command: list[str], most: Peak) -> Row:
        started = time.monotonic()
        environment = {**os.environ, **self._environment}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        with process, _watched([process.pid]) as peak:
            process.wait(_MOST_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{what}: ended with {process.returncode}")
        return Row(what, time.monotonic() - started, peak, most)

    def _expect_sound(self) -> None:
        if problems := [*judge.unsound(self._store), *judge.lost(self._store)]:
            raise RuntimeError("\n".join(problems))


@contextlib.contextmanager
def _watched(pids: Sequence[int]) -> Iterator[Peak]:
    """The peaks of these processes while the block runs."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for pid in list(pids):
                peak.look(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__)
    flags.add_argument("--runs", type=int, default=20)
    flags.add_argument("--pipelines", type=int, default=20)
    flags.add_argument("--crops", type=int, default=10_000)
    flags.add_argument("--checkpoints", type=int, default=100)
    flags.add_argument("--objects", type=int, default=50_000)
    given = vars(flags.parse_args())
    excesses = []
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as temporary:
        harness = Harness(Path(temporary))
        try:
            load = Load(harness)
            print("| what | time | memory | open files | threads |\n|---|---|---|---|---|", flush=True)
            for row in load.rows(given):
                print(row, flush=True)
                excesses += row.excesses()
        finally:
            harness.close()
    print("".join(f"\nTOO MUCH: {excess}" for excess in excesses))
    return 1 if excesses else 0


if __name__ == "__main__":
    sys.exit(main())
