"""The pipeline under kfp.local, with a handler of our own for its steps.

The graph, the placeholders, the cache and the retries are kfp's. How a step is run is not: kfp's handlers refuse
container components (SubprocessRunner) or lose their exit status, the lines of those that end quickly and the choice of
a local image by its id (DockerRunner). `pipelines.host_processes` and `pipelines.containers` run them instead.

The seam is `replaced_handler`. It relies on kfp 2.17.0: `kfp.local.task_dispatcher` looks the handlers up as attributes
of their modules each time it runs a task. `check_seam` says whether that still holds; a test calls it, so an upgrade of
kfp that moves it fails loudly.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import inspect
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from kfp import local
from kfp.local import status, task_dispatcher

from components.images import PARTS

#: kfp's runner → the module and class of its handler.
_HANDLERS = {
    local.SubprocessRunner: ("subprocess_task_handler", "SubprocessTaskHandler"),
    local.DockerRunner: ("docker_task_handler", "DockerTaskHandler"),
}


@dataclass
class StepRun:
    """One step that ran."""

    step: str
    seconds: float
    status: int  #: exit status; of a process that a signal ended its negative number, of a container 128 above it
    peak_bytes: int  #: largest resident set; 0 where it is not known


class Runner(Protocol):
    """How steps are run."""

    kfp_runner: Any  #: kfp's description of it, whose type decides which handler is replaced

    def image(self, step: str) -> str:
        """The reference that the pipeline carries for `step`, and with it the key of kfp's cache: it changes whenever
        the step may answer otherwise."""
        ...

    def run(
        self, step: str, image: str, command: Sequence[str], environment: Mapping[str, str], stream: TextIO
    ) -> StepRun:
        """Run a step's command to its end; its output goes to `stream` as it comes, indented."""
        ...


@dataclass
class Log:
    """What ran, in order, and where its output goes."""

    order: Sequence[str]
    stream: TextIO
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


def check_seam(kind: type) -> None:
    """Hold kfp to what `replaced_handler` relies on, for kfp's runner of this type.

    Raises:
        RuntimeError: that says what moved and what to do.
    """
    module, name = _HANDLERS[kind]
    source = inspect.getsource(task_dispatcher.run_single_task_implementation)
    handler = getattr(importlib.import_module(f"kfp.local.{module}"), name)
    expected = ["image", "full_command", "pipeline_root", "runner", "env_vars"]
    found = [parameter for parameter in inspect.signature(handler.__init__).parameters if parameter != "self"]
    if f"{module}.{name}" not in source or found != expected:
        raise RuntimeError(
            f"kfp's local runner has changed: pipelines/kfp_local.py replaces kfp.local.{module}.{name}, which "
            f"kfp.local.task_dispatcher no longer looks up there, or which now takes {found} instead of {expected}. "
            "Pin kfp to 2.17.0, or move the seam"
        )


@contextlib.contextmanager
def replaced_handler(runner: Runner, record: Log) -> Iterator[None]:
    """Within it, kfp.local leaves the steps of its runner to `runner`."""
    kind = type(runner.kfp_runner)
    check_seam(kind)
    module_name, name = _HANDLERS[kind]
    module = importlib.import_module(f"kfp.local.{module_name}")
    original = getattr(module, name)

    class Handler(original):  # type: ignore[misc, valid-type]
        """Runs a container component's command as the runner does."""

        def validate_image(self, image: str) -> None:
            """The runner knows its images."""

        def validate_not_container_component(self, full_command: list[str]) -> None:
            """A container component is what we are here for."""

        def run(self) -> status.Status:
            step = self.full_command[self.full_command.index("components") + 1]
            record.started(step)
            record.runs.append(runner.run(step, self.image, self.full_command, self.env_vars, record.stream))
            return status.Status.SUCCESS if record.runs[-1].status == 0 else status.Status.FAILURE

    setattr(module, name, Handler)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def quiet_kfp() -> Iterator[None]:
    """Keep kfp's own log (colours, rulers, whole artifacts) out of the output; warnings stay.

    For each task kfp replaces `print` and the root logger's handlers, and puts back what it found. Of tasks that run at
    the same time one finds what another put there, and that would stay.
    """
    root, printing = logging.getLogger(), builtins.print
    previous, handlers, level = root.manager.disable, root.handlers[:], root.level
    logging.disable(logging.INFO)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            yield
    finally:
        builtins.print = printing
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(previous)


def run_pipeline(
    pipeline: object, arguments: dict[str, object], root: str, cache: str, runner: Runner, record: Log
) -> dict[str, object]:
    """Run a compiled or decorated pipeline; its outputs by name.

    Raises:
        StepFailed: when a step ends with another status than 0.
    """
    local.init(
        runner=runner.kfp_runner,
        pipeline_root=root,
        raise_on_error=True,
        enable_caching=True,
        cache_root=cache,
    )
    with replaced_handler(runner, record), quiet_kfp():
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

    @property
    def status(self) -> int:
        """What the step ended with."""
        return self.run.status
