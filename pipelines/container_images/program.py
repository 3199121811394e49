"""The docker program, called."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from components.errors import UserError


def docker(*arguments: str) -> None:
    """Call it; what it says goes to the terminal.

    Raises:
        UserError: when it is not installed or fails.
    """
    if _call(arguments, capture=False).returncode != 0:
        raise UserError(f"docker {arguments[0]} failed; what it said is above")


def is_here(image: str) -> bool:
    """Whether Docker has this image already."""
    return _call(("image", "inspect", image), capture=True).returncode == 0


def inspect(image: str) -> dict[str, Any]:
    """What Docker knows of an image that is here.

    Raises:
        UserError: when it is not, or Docker does not answer.
    """
    done = _call(("image", "inspect", image), capture=True)
    if done.returncode != 0:
        raise UserError(f"{image}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def check() -> None:
    """Hold the daemon to answering, before anything is made for it.

    Raises:
        UserError: when it does not.
    """
    done = _call(("version", "--format", "{{.Server.Version}}"), capture=True)
    if done.returncode != 0:
        raise UserError(f"no Docker daemon that this user may use: {done.stderr.strip().splitlines()[-1]}")


def _call(arguments: tuple[str, ...], capture: bool) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], text=True, capture_output=capture)
    except FileNotFoundError:
        raise UserError("docker is not installed, and images are built with it; install Docker") from None
