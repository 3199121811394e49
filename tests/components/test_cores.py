"""Cores that a process may use: by the scheduler, and by the control groups of either version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cores import usable_cores
from components.parallel import cores

#: As a container with a namespace of its own sees the unified hierarchy.
UNIFIED = "29 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process on one core, as `taskset` starts it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node larger than any limit below."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))


def system(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """`root` with what the kernel shows of control groups below it."""
    for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_process_bound_to_one_core_uses_one(one_core: None) -> None:
    assert usable_cores() == 1
    assert cores() == 1


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 64), ("400000", 4), ("250000", 2), ("50000", 1), ("12800000", 64)]
)
@pytest.mark.usefixtures("many_cores")
def test_a_containers_limit_counts(tmp_path: Path, limit: str, expected: int) -> None:
    root = system(tmp_path, UNIFIED, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{limit} 100000\n"})
    assert usable_cores(root) == expected


@pytest.mark.usefixtures("many_cores")
def test_the_tightest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    limits = {
        "sys/fs/cgroup/machine/pod/cpu.max": "800000 100000\n",
        "sys/fs/cgroup/machine/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
    }
    assert usable_cores(system(tmp_path, UNIFIED, "0::/machine/pod\n", limits)) == 3


@pytest.mark.parametrize("top", ["/", "/docker/0123"], ids=["on the host", "in a container"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", 64), ("150000", 1), ("200000", 4)])
@pytest.mark.usefixtures("many_cores")
def test_version_1_of_control_groups(tmp_path: Path, top: str, quota: str, expected: int) -> None:
    """Docker without namespaces mounts a container's group as the hierarchy's top, and calls it by its name outside."""
    mounts = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        f"33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        f"35 31 0:32 {top} /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    groups = "5:memory:/docker/0123\n2:cpu,cpuacct:/docker/0123\n0::/docker/0123\n"
    folder = "sys/fs/cgroup/cpu,cpuacct" + ("/docker/0123" if top == "/" else "")
    period = "50000" if quota == "200000" else "100000"
    files = {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}
    assert usable_cores(system(tmp_path, mounts, groups, files)) == expected


@pytest.mark.usefixtures("many_cores")
def test_a_system_that_says_nothing_of_limits_has_none(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 64
    assert usable_cores(system(tmp_path, UNIFIED, "0::/\n", {})) == 64
