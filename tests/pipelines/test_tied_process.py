"""A child tied to its parent, on kernels that group processes by session and on those that do not."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from pipelines import tied_process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="niceness is set on Linux alone")


@pytest.mark.parametrize("groups", ["by session", "none for the first session", "unknown", "refused"])
def test_a_child_is_nicer_whatever_the_kernel_groups_by(
    groups: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "autogroup"
    match groups:
        case "by session":
            group = Path("/proc/self/autogroup")
        case "none for the first session":
            group.write_text("")
        case "refused":
            group.mkdir()
    monkeypatch.setattr(tied_process, "_AUTOGROUP", group)
    child = tied_process.start(["sleep", "60"], niceness=5)
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
        assert os.getsid(child.pid) == child.pid
    finally:
        child.kill()
        assert child.wait(10) == -signal.SIGKILL
