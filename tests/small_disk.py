"""A small disk: a tmpfs, where this process may mount one."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def mounted(place: Path, size: int) -> Iterator[Path]:
    """Have a disk of so many bytes at `place`, an empty folder, while the block lasts."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@functools.cache
def can_mount() -> bool:
    """Whether this process may make a small disk; root in a container often may not."""
    if os.geteuid() != 0:
        return False
    try:
        with tempfile.TemporaryDirectory(prefix="disk-") as place, mounted(Path(place), 4096):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
