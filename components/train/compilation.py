"""Whether torch can compile on this machine, found out before training."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from components.errors import UserError


def check(device: torch.device, folder: Path) -> None:
    """Compile something small for `device`: what torch needs (a compiler, headers) differs by system and version.

    Args:
        folder: where this process, and the others of its run, keep what they compile from now on, whatever
            ``TORCHINDUCTOR_CACHE_DIR`` says; empty at first. Not torch's own, which outlives them: a process killed
            while it compiles leaves half a library there, which the next cannot load.

    Raises:
        UserError: where that does not work.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    try:
        torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    # What a compiler, or its absence, makes torch raise is not to be foreseen.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"train.compile: torch cannot compile for the {device.type} here ({reason}); install a C++ compiler (g++) "
            "and Python's headers where the step runs, or set train.compile to false"
        ) from None


def _small(values: torch.Tensor) -> torch.Tensor:
    return (values + 1).sin()
