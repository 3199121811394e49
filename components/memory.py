"""The most memory that this process, or one that it waited for, has held, by what the system counts for it."""

from __future__ import annotations

import resource
import sys


def peak_of(usage: resource.struct_rusage) -> int:
    """The largest resident set in a process's `usage`, bytes."""
    # getrusage(2): kilobytes, but bytes on macOS.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def own_peak() -> int:
    """The largest resident set of this process so far, bytes."""
    return peak_of(resource.getrusage(resource.RUSAGE_SELF))
