"""How each step's process ends in direct use: 0 done, 2 the user's input, 75 try again, 1 ours, 130 and 143 signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components import runtime
from components.__main__ import main
from components.errors import Unavailable, UserError
from components.images import STEPS
from components.runtime import Result
from components.settings import Settings
from tests.conftest import ROOT

#: Starts as `python -m components <step>` does, with a step that only waits.
WAITING = """
import sys, time
from components import runtime
def step(name: str) -> None:
    print("begun", flush=True)
    time.sleep(60)
runtime.heed_sigterm()
sys.exit(runtime.main("wait", step, ["--name", "x"]))
"""


@pytest.mark.parametrize("step", STEPS)
def test_every_step_ends_with_0_for_help_and_2_for_what_the_user_gave(
    step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ended(step, ["--help"]) == 0
    for arguments in ([], ["--no-such-flag"], ["{}"], ["{"], ['{"outputs": {"outputFile": "/tmp/x"}}']):
        assert _ended(step, arguments) == UserError.status, arguments
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err


def _ended(step: str, arguments: list[str]) -> int:
    try:
        return main([step, *arguments])
    except SystemExit as end:
        # Python's own parser of flags ends with 2, too.
        return int(end.code or 0)


@pytest.mark.parametrize("arguments", [["nothing"], ["--nothing"]])
def test_a_step_that_there_is_none_of_is_the_users_mistake(arguments: list[str]) -> None:
    assert main(arguments) == UserError.status


class Config(Settings):
    """No settings."""


def ends(error: BaseException | None) -> Any:
    def step(config: Config) -> Result:
        if error is not None:
            raise error
        return Result()

    return step


def test_what_a_step_raises_is_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert runtime.main("x", ends(None), []) == 0
    assert runtime.main("x", ends(UserError("wrong")), []) == 2
    assert runtime.main("x", ends(Unavailable("gone")), []) == 75
    assert runtime.main("x", ends(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err.splitlines() == [
        "error: x: wrong",
        "error: x: gone",
        "error: x: interrupted",
    ]
    # A defect of ours is raised, and Python ends the process with its traceback and 1.
    with pytest.raises(ZeroDivisionError):
        runtime.main("x", ends(ZeroDivisionError()), [])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_step_with_128_and_its_number(number: signal.Signals, status: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.1)
        process.send_signal(number)
        said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in said[1]
