"""Trainers that are killed and started again: ``python -m tests.components.train.killable``, JSON in and out.

Each attempt is a fork of this process, which has the libraries loaded and has computed nothing yet, so that
it costs less than a second instead of the five that importing takes.

In: a seed and a list of jobs, each ``{"crops": folder, "arguments": of train, "settings": …, "out": folder}``. A job is
killed at ``"kills"`` moments, then runs to its end; with ``"twice"`` two processes of it run to the end side by side.
With ``"signal": "SIGTERM"`` it is asked to end instead, ``"after"`` so many steps. Out: a list, for each job the steps
at which attempts began and the statuses they ended with.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from components.train.config import TrainConfig
from components.train.loop import Trainer
from components.train.step import train

MOST_STEPS = 3
#: About what a trainer takes to load its model.
FIRST_SECONDS = 0.5


def attempt(job: dict[str, Any], folder: str) -> tuple[int, int]:
    """Start a trainer; its process id and a pipe that says, in a line each, which step it begins."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        original = Trainer.step

        def step(self: Trainer) -> Any:
            os.write(writer, f"{self.done}\n".encode())
            return original(self)

        Trainer.step = step  # type: ignore[method-assign]
        out = Path(job["out"]) / folder
        train(
            TrainConfig(**job["settings"]),
            crops=Path(job["crops"]),
            **job["arguments"],
            checkpoints=out / "checkpoints",
            metrics=out / "metrics",
            report=out / "report.html",
        )
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        # The process ends below without a word.
        traceback.print_exc()
    finally:
        os._exit(status)


def killed(job: dict[str, Any], chance: random.Random, number: int) -> tuple[int, int]:
    """Start an attempt and end it at some moment; the step it began with (-1: none), and its status.

    After 0 to `MOST_STEPS` steps, and up to the time of another one: in a step, a snapshot, an upload, a commit;
    always before the last steps, so that there is something left to be done.
    """
    pid, reader = attempt(job, f"killed-{number}")
    begun, times = [], [time.monotonic()]
    steps, moment = job.get("after", number % (MOST_STEPS + 1)), chance.random()
    with os.fdopen(reader) as lines:
        for line in itertools.islice(iter(lines.readline, ""), steps):
            begun.append(int(line))
            times.append(time.monotonic())
            if begun[-1] >= job["settings"]["max_train_steps"] - 3:
                break
        time.sleep(moment * (times[-1] - times[-2] if len(times) > 2 else FIRST_SECONDS))
        os.kill(pid, signal.Signals[job.get("signal", "SIGKILL")])
        return begun[0] if begun else -1, ended(pid)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(job: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    first, statuses = [], []
    for number in range(job.get("kills", 0)):
        began, status = killed(job, chance, number)
        first.append(began)
        statuses.append(status)
    started = [attempt(job, f"whole-{i}") for i in range(2 if job.get("twice") else 1)]
    for pid, reader in started:
        with os.fdopen(reader) as lines:
            line = lines.readline()
            first.append(int(line) if line else -1)
            lines.read()
        statuses.append(ended(pid))
    return {"began": first, "statuses": statuses}


def main() -> None:
    request = json.load(sys.stdin)
    # What a trainer imports only when it loads a model or draws its page, each time it is started.
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel  # noqa: F401
    from matplotlib import pyplot  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    chance = random.Random(request["seed"])
    print(json.dumps([run(job, chance) for job in request["jobs"]]))


if __name__ == "__main__":
    main()
