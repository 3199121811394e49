"""How each step's process ends in direct use: 0 done, 2 the user's input, 75 try again, 1 ours, 130 and 143 signals."""

from __future__ import annotations

import errno
import sys
from typing import Any

import pytest

from components import runtime
from components.__main__ import main
from components.errors import Unavailable, UserError
from components.images import STEPS
from components.runtime import Result
from components.settings import Settings


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


@pytest.mark.parametrize("step", STEPS)
def test_memory_that_runs_out_while_libraries_load_is_told(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_spec(name: str, path: object, target: object = None) -> None:
        # As the system's loader says it where address space is short.
        if name == f"components.{step}.step":
            raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    finder = type("Finder", (), {"find_spec": staticmethod(find_spec)})
    monkeypatch.delitem(sys.modules, f"components.{step}.step", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    assert main([step, "--help"]) == UserError.status
    assert capsys.readouterr().err.startswith(f"error: {step}: memory ran out (libtorch_cpu.so: failed to map")


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
    assert runtime.main("x", ends(MemoryError()), []) == 2
    assert runtime.main("x", ends(OSError(errno.ENOSPC, "No space left on device", "/out/x")), []) == 2
    assert runtime.main("x", ends(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err.splitlines() == [
        "error: x: wrong",
        "error: x: gone",
        "error: x: memory ran out (MemoryError); give it more memory (on a cluster: `memory` in its profile)",
        "error: x: /out/x: cannot be written (No space left on device); free some space, or give outputs and TMPDIR a "
        "larger disk",
        "error: x: interrupted",
    ]
    # A defect of ours is raised, and Python ends the process with its traceback and 1.
    with pytest.raises(ZeroDivisionError):
        runtime.main("x", ends(ZeroDivisionError()), [])
