"""A child process that ends with this one, even where this one is killed.

On Linux the kernel sees to it (``PR_SET_PDEATHSIG``, prctl(2)); elsewhere a child outlives a parent that is
killed. Not covered: the child's own children.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_AUTOGROUP = Path("/proc/self/autogroup")


def start(command: list[str], niceness: int = 0, **options: Any) -> subprocess.Popen[bytes]:
    """``subprocess.Popen(command, **options)`` in a session of its own, tied to this process.

    A session of its own, because Ctrl-C in a terminal goes to every process of the terminal's: those that
    use the child end first, then it.

    Args:
        niceness: by how much the child yields the processor to others, as in nice(1); on Linux alone.
    """
    started: list[subprocess.Popen[bytes] | BaseException] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            process = subprocess.Popen(
                command, start_new_session=True, preexec_fn=_tie(os.getpid(), niceness), **options
            )
            started.append(process)
        except BaseException as error:
            started.append(error)
            return
        finally:
            ready.set()
        process.wait()

    # The signal is sent when the thread that started the child ends, so that one lives as long as the child.
    threading.Thread(target=keep, name=f"keeps {command[0]}", daemon=True).start()
    ready.wait()
    if isinstance(started[0], BaseException):
        raise started[0]
    return started[0]


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process that `start` made, and its group: politely, and after `seconds` by force."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _tie(parent: int, niceness: int) -> Callable[[], None] | None:
    """What the child does before it becomes the command."""
    if not sys.platform.startswith("linux"):
        return None
    # Nothing that takes a lock belongs between fork and exec: another thread of the parent may have held it.
    yielding = str(min(19, _session_niceness() + niceness)).encode()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def preexec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if niceness:
            os.nice(niceness)
            # Where Linux groups processes by session (autogroup, sched(7)), a process's own niceness counts within its
            # session alone: beside another it weighs as much as all of that.
            with contextlib.suppress(OSError):
                file = os.open(_AUTOGROUP, os.O_WRONLY)
                try:
                    os.write(file, yielding)
                except BlockingIOError:  # one process without privileges every tenth of a second, whoever it is
                    time.sleep(0.2)
                    os.write(file, yielding)

    return preexec


def _session_niceness() -> int:
    """That of this process's session, beside others; 0 where Linux does not group processes by session."""
    try:
        # "/autogroup-25 nice 0", and nothing in the session of the machine's first process, which has no group
        return int(_AUTOGROUP.read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0
