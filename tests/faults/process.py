"""A step in a process of its own, as its container runs it: ``python -m components <step> …``.

The process is a fork of one that has the libraries loaded and has computed nothing yet, so that it costs less than a
second instead of the five that importing takes. Limits are those of a pod on a poor machine.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import clock

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.loaded"])


def with_libraries(function: Callable[..., object], *arguments: object) -> None:
    """Have something done by a process that has the libraries loaded, so that this one need not load them, too.

    The first call is the one that takes the time; steps after it take no longer than each other.
    """
    process = _context.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{function.__name__} ended with {process.exitcode}")


@dataclass(frozen=True)
class Limits:
    """What a process gets less than it would like."""

    memory: int | None = None  #: bytes of address space beyond what it has when it starts
    file_size: int | None = None  #: bytes of the largest file that it may write
    plain: bool = False  #: whether it has no more rights than the owner of its files, even as root
    jump: tuple[float, float] | None = None  #: seconds after which the clock jumps, and by how many


class StepProcess:
    """A step that runs; its output goes to the file `log`."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, limits: Limits = Limits()
    ) -> None:
        self.log = log
        self._process = _context.Process(target=_run, args=(list(arguments), dict(environment), str(log), limits))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self, number: int) -> bool:
        """Send a signal; False where the process has ended already."""
        if not self._process.is_alive():
            return False
        os.kill(self.pid, number)
        return True

    def wait(self, seconds: float) -> int | None:
        """The exit status (negative: the signal that ended it); None where it hangs, and is killed after `seconds`."""
        self._process.join(seconds)
        if self._process.is_alive():
            self.kill(signal.SIGUSR1)
            self._process.join(1)
            self._process.kill()
            self._process.join()
            return None
        return self._process.exitcode


def _run(arguments: list[str], environment: dict[str, str], log: str, limits: Limits) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(output, number)
    # Where it hangs, its log says where.
    faulthandler.register(signal.SIGUSR1, file=os.fdopen(os.dup(output), "w"), all_threads=True)
    for name in list(os.environ):
        if name.startswith(("STORE_", "AWS_")):
            del os.environ[name]
    os.environ.update(environment)
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limits.plain:
        _give_up_capabilities()
    if limits.memory is not None:
        space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    if limits.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, limits.file_size))
    if limits.jump is not None:
        clock.jump(*limits.jump)
    from components.__main__ import main

    sys.exit(main(arguments))


def _give_up_capabilities() -> None:
    """Be root by name only, so that permissions count (capset(2)): another user might not read our libraries."""
    version, words = 0x20080522, 2
    header = (ctypes.c_uint32 * 2)(version, 0)
    none = (ctypes.c_uint32 * (3 * words))()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")
