"""Run the pipeline's container components as processes of this machine, under kfp.local.

kfp.local's SubprocessRunner refuses container components, since in general their command needs their
image. Ours does not: it is ``python3 -m components <step>``, and this environment holds what the
images hold. So the class that refuses is replaced by one that runs the command, and nothing else of
kfp changes: the graph, the placeholders, the cache and the retries are its own.

The seam is `replaced_handler`. It relies on kfp 2.17.0: `kfp.local.task_dispatcher` looks the handler
up as ``subprocess_task_handler.SubprocessTaskHandler`` each time it runs a task. `check_seam` says
whether that still holds; a test calls it, so an upgrade of kfp that moves it fails loudly.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from kfp import local
from kfp.local import status, subprocess_task_handler, task_dispatcher

from components.images import PARTS
from components.progress import duration


@dataclass
class StepRun:
    """One process that ran."""

    step: str
    seconds: float
    status: int  #: exit status; negative: the signal that ended it
    peak_bytes: int  #: largest resident set


@dataclass
class Log:
    """What ran, in order, and where its output goes."""

    order: Sequence[str]
    stream: TextIO
    environment: dict[str, str] = field(default_factory=dict)
    runs: list[StepRun] = field(default_factory=list)
    _next: int = 0

    def started(self, step: str) -> None:
        """Steps are run in `order`; those passed over were answered by kfp's cache, which is silent.

        A part of a step runs before it, several of them at the same time.
        """
        position = self.order.index(PARTS.get(step, step))
        for skipped in self.order[self._next : position]:
            self.cached(skipped)
        self._next = position if step in PARTS else position + 1
        print(f"\n── {step} " + "─" * max(3, 76 - len(step)), file=self.stream, flush=True)

    def ended(self) -> None:
        """The pipeline is through: what did not start at the end was cached as well."""
        for skipped in self.order[self._next :]:
            self.cached(skipped)
        self._next = len(self.order)

    def cached(self, step: str) -> None:
        print(f"\n── {step} " + "─" * max(3, 67 - len(step)) + " cached ─", file=self.stream, flush=True)


def check_seam() -> None:
    """Hold kfp to what `replaced_handler` relies on.

    Raises:
        RuntimeError: that says what moved and what to do.
    """
    source = inspect.getsource(task_dispatcher.run_single_task_implementation)
    handler = subprocess_task_handler.SubprocessTaskHandler
    expected = ["image", "full_command", "pipeline_root", "runner", "env_vars"]
    found = [name for name in inspect.signature(handler.__init__).parameters if name != "self"]
    if "subprocess_task_handler.SubprocessTaskHandler" not in source or found != expected:
        raise RuntimeError(
            "kfp's subprocess runner has changed: pipelines/host_processes.py replaces "
            "kfp.local.subprocess_task_handler.SubprocessTaskHandler, which kfp.local.task_dispatcher no longer "
            f"looks up there, or which now takes {found} instead of {expected}. Pin kfp to 2.17.0, or move the seam"
        )


@contextlib.contextmanager
def replaced_handler(record: Log) -> Iterator[None]:
    """Within it, kfp.local's SubprocessRunner runs container components as host processes."""
    check_seam()

    class HostProcess(subprocess_task_handler.SubprocessTaskHandler):
        """Runs a container component's command with this interpreter."""

        def validate_image(self, image: str) -> None:
            """Any image will do: none is pulled."""

        def validate_not_container_component(self, full_command: list[str]) -> None:
            """A container component is what we are here for."""

        def run(self) -> status.Status:
            step = self.full_command[self.full_command.index("components") + 1]
            record.started(step)
            command = [sys.executable if part == "python3" else part for part in self.full_command]
            run = _run(step, command, {**os.environ, **self.env_vars, **record.environment}, record.stream)
            record.runs.append(run)
            return status.Status.SUCCESS if run.status == 0 else status.Status.FAILURE

    original = subprocess_task_handler.SubprocessTaskHandler
    subprocess_task_handler.SubprocessTaskHandler = HostProcess
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = original


def _run(step: str, command: list[str], environment: dict[str, str], stream: TextIO) -> StepRun:
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(f"   {line}", end="", file=stream, flush=True)
            # wait4 instead of wait: it is the only call that gives this child's own peak memory.
            _, ended, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        process.returncode = os.waitstatus_to_exitcode(ended)
    seconds = time.monotonic() - started
    if process.returncode == 0:
        print(f"   {step} took {duration(seconds)}", file=stream, flush=True)
    return StepRun(step, seconds, process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


@contextlib.contextmanager
def quiet_kfp() -> Iterator[None]:
    """Keep kfp's own log (colours, rulers, whole artifacts) out of the output; warnings stay."""
    previous = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            yield
    finally:
        logging.disable(previous)


def run_pipeline(
    pipeline: object, arguments: dict[str, object], root: str, cache: str, record: Log
) -> dict[str, object]:
    """Run a compiled or decorated pipeline; its outputs by name.

    Raises:
        StepFailed: when a step ends with another status than 0.
    """
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=root,
        raise_on_error=True,
        enable_caching=True,
        cache_root=cache,
    )
    with replaced_handler(record), quiet_kfp():
        try:
            task = pipeline(**arguments)  # type: ignore[operator]
        except RuntimeError:
            if record.runs and record.runs[-1].status != 0:
                raise StepFailed(record.runs[-1]) from None
            raise
    record.ended()
    return dict(task.outputs)


class StepFailed(Exception):
    """A step ended with a status other than 0; it has said why in its own output."""

    def __init__(self, run: StepRun) -> None:
        super().__init__(json.dumps({"step": run.step, "status": run.status}))
        self.run = run
