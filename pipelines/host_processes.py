"""Steps as processes of this machine, under kfp.local.

A step's command is ``python3 -m components <step>``, and this environment holds what the images hold: so it runs
without them. kfp's part is in `pipelines.kfp_local`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from kfp import local

from components import images
from components.memory import peak_of
from components.progress import duration
from pipelines.kfp_local import StepRun


class HostProcesses:
    """Runs every step with this interpreter; `environment` comes on top of this process's own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.kfp_runner = local.SubprocessRunner(use_venv=False)

    def image(self, step: str) -> str:
        """No image, but what its cache must know of one: a digest of the step's sources."""
        return images.source_reference(step)

    def run(
        self, step: str, image: str, command: Sequence[str], environment: Mapping[str, str], stream: TextIO
    ) -> StepRun:
        """Run the step's process; its output goes to `stream`, indented."""
        here = [sys.executable if part == "python3" else part for part in command]
        started = time.monotonic()
        with subprocess.Popen(
            here,
            env={**os.environ, **environment, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
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
        return StepRun(step, seconds, process.returncode, peak_of(usage))
