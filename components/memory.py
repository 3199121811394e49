"""The most memory that a process has held, by what the system counts for it."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def peak_of(usage: resource.struct_rusage) -> int:
    """The largest resident set in a process's `usage`, bytes."""
    # getrusage(2): kilobytes, but bytes on macOS.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def own_peak() -> int:
    """The largest resident set of this process so far, bytes."""
    return peak_of(resource.getrusage(resource.RUSAGE_SELF))


def peak_of_running(pid: int) -> int:
    """The largest resident set of a running process so far, bytes; 0 where the system does not say (outside Linux)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
