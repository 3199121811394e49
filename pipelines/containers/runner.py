"""One container after another: created as `confinement` says, its output shown as it comes, removed at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from kfp import local

from components.errors import UserError
from components.memory import peak_of_running
from components.progress import duration
from pipelines.config import PipelineConfig
from pipelines.containers import confinement, daemon
from pipelines.kfp_local import StepRun

if TYPE_CHECKING:
    import docker

#: How long an interrupted step may take to save its state.
_STOP_SECONDS = 20


class Containers:
    """Runs every step in a container of its own."""

    def __init__(self, client: docker.DockerClient, images: Mapping[str, str], arguments: Mapping[str, Any]) -> None:
        """`images` are those of `daemon.resolve`, `arguments` those of `confinement.arguments`."""
        self._client = client
        self._images = dict(images)
        self.kfp_runner = local.DockerRunner(**arguments)

    def image(self, step: str) -> str:
        """The image by its id, so that one that was built anew is not answered from the cache."""
        return self._images[step]

    def run(
        self, step: str, image: str, command: Sequence[str], environment: Mapping[str, str], stream: TextIO
    ) -> StepRun:
        """Run the step's container; its output goes to `stream`, indented.

        Raises:
            UserError: when Docker does not start it.
        """
        from docker.errors import APIError

        arguments = {**self.kfp_runner.container_run_args, "environment": dict(environment)}
        try:
            container = self._client.containers.create(
                image.rpartition("@")[2],
                # A component's command takes the place of the image's entry point, as in a pod.
                entrypoint=list(command[:1]),
                command=list(command[1:]),
                **arguments,
            )
        except APIError as error:
            raise UserError(f"Docker does not create the container of {step}: {error.explanation or error}") from None
        try:
            return _run(container, step, stream)
        except APIError as error:
            raise UserError(f"Docker does not run the container of {step}: {error.explanation or error}") from None
        except BaseException:
            with contextlib.suppress(APIError):
                container.stop(timeout=_STOP_SECONDS)
            raise
        finally:
            with contextlib.suppress(APIError):
                container.remove(force=True)


def ready(file: Path | None, config: PipelineConfig, root: Path, store: Mapping[str, str]) -> Containers:
    """The runner for one run.

    Args:
        file: names the images (see `daemon.references`).
        config, root, store: see `confinement.arguments`.

    Raises:
        UserError: where there is no Docker, an image is not here, or a container could not see what it needs.
    """
    named = daemon.references(file)
    client = daemon.connect()
    daemon.remove_left_behind(client)
    found = daemon.resolve(client, named)
    return Containers(client, found, confinement.arguments(config, root, store, client.info()))


def _run(container: Any, step: str, stream: TextIO) -> StepRun:
    # Attached to before it starts, so that no line of one that ends at once is lost.
    output = container.attach(stdout=True, stderr=True, stream=True)
    started = time.monotonic()
    container.start()
    container.reload()
    process, peak = container.attrs["State"]["Pid"], 0
    for line in _lines(output):
        print(f"   {line}", file=stream, flush=True)
        # The mark only rises, and every step ends with a line.
        peak = max(peak, peak_of_running(process))
    status = int(container.wait()["StatusCode"])
    seconds = time.monotonic() - started
    if status == 0:
        print(f"   {step} took {duration(seconds)}", file=stream, flush=True)
    container.reload()
    if container.attrs["State"]["OOMKilled"]:
        print(f"   {step} was ended by the system, which had no memory left for it", file=stream, flush=True)
    return StepRun(step, seconds, status, peak)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Chunks of output, which end anywhere, as lines."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
