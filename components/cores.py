"""How many processor cores this process may use: what it is given, which may be less than the machine has.

The scheduler says which cores it may run on (affinity: ``taskset``, cpusets), its control group how much of their time
(a container's CPU limit): sched(7), cgroups(7) and the kernel's documentation of the cpu controller, versions 1 and 2.
Not covered: shares (what Kubernetes makes of a pod's request), which limit nothing while other cores idle.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use, 1 at least; a limit of two and a half counts as two.

    Threads that wait for each other, as torch's do, gain nothing from the half: once it is spent, all of them stand
    still until the next period.

    Args:
        root: where ``proc`` is, and what its mount points are below.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_limits(root)])))


def _limits(root: Path) -> Iterator[float]:
    """The CPU limits, in cores, of this process's control group and of those above it."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        # No Linux.
        return
    for controllers, group in (line.split(":", 2)[1:] for line in groups):
        for mount in mounts:
            place, _, kind = mount.partition(" - ")
            _, _, _, top, point = place.split()[:5]
            name, _, options = kind.split(" ", 2)
            if name == "cgroup2" and not controllers:
                read = _of_version_2
            elif name == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(","):
                read = _of_version_1
            else:
                continue
            whole = root / point.lstrip("/")
            # Without a namespace of its own, a container sees its group mounted as the top, named as the host has it.
            below = PurePosixPath(group)
            inner = below.relative_to(top) if below.is_relative_to(top) else PurePosixPath()
            for folder in (whole / inner, *(whole / part for part in inner.parents)):
                with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                    yield read(folder)


def _of_version_1(folder: Path) -> float:
    quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period if quota >= 0 else float("inf")


def _of_version_2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return float("inf") if quota == "max" else int(quota) / int(period)
