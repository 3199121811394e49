"""What only Kubernetes itself says, through the user's own kubectl: a port into the cluster, pods, config maps.

Not covered: installing kubectl and logging it in.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shutil
import subprocess
import threading
import time
from typing import Any

from components.errors import Unavailable, UserError
from pipelines import tied_process

_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+)")
_ANSWERS_WITHIN = 30.0


def command(context: str | None, *arguments: str) -> list[str] | None:
    """A kubectl command line; None where there is no kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    return [program, *(["--context", context] if context else []), *arguments]


def get(context: str | None, *arguments: str) -> dict[str, Any] | None:
    """What ``kubectl get … -o json`` answers; None where there is no kubectl, or it may see none of it."""
    line = command(context, "get", *arguments, "-o", "json")
    if line is None:
        return None
    try:
        done = subprocess.run(line, capture_output=True, timeout=_ANSWERS_WITHIN, stdin=subprocess.DEVNULL)
        # Of several kinds it gives those that it may see, with a status that says it could not see all.
        return dict(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return None


class PortForward:
    """A port of 127.0.0.1 that leads to a service in the cluster, as long as it is entered."""

    def __init__(self, namespace: str, service: str, port: int, context: str | None, patience: float = 30.0) -> None:
        self._what = ["--namespace", namespace, "port-forward", "--address", "127.0.0.1", f"svc/{service}"]
        self._remote, self._context, self._patience = port, context, patience
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0  #: of this machine; the same after a restart

    def __enter__(self) -> PortForward:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            tied_process.stop(self._process, seconds=5)

    @property
    def alive(self) -> bool:
        """Whether kubectl still forwards; it ends when the pod behind the service goes."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Start kubectl, and wait until it listens.

        Raises:
            UserError: where there is no kubectl, or it refuses; its own words are in the message.
            Unavailable: where it says nothing in time.
        """
        line = command(self._context, *self._what, f"{self.port or ''}:{self._remote}")
        if line is None:
            raise UserError("--port-forward: kubectl is not on the PATH; install it, or give --host URL instead")
        self.__exit__()
        process = tied_process.start(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._process = process
        out, err = _lines(process.stdout), _lines(process.stderr)
        until = time.monotonic() + self._patience
        said: list[bytes] = []
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                if match := _FORWARDING.match(out.get(timeout=0.05) or b""):
                    self.port = int(match[1])
                    return
            if process.poll() is not None:
                said += list(iter(lambda: err.get(timeout=1), None))
                words = b" ".join(said).decode(errors="replace").strip() or f"status {process.returncode}"
                raise UserError(f"--port-forward: kubectl could not reach the service: {words}")
        self.__exit__()
        raise Unavailable(f"--port-forward: kubectl said nothing for {self._patience:.0f} s; is the cluster up?")


def _lines(stream: Any) -> queue.Queue[bytes | None]:
    """The stream's lines as they come, then None. Read on, so that kubectl never waits for a reader."""
    found: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                found.put(line.strip())
        found.put(None)

    threading.Thread(target=read, name="reads kubectl", daemon=True).start()
    return found
