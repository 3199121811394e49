"""Saved training state: written whole or not at all."""

from pathlib import Path
from typing import Any

import torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that a reader finds either the former or the new one, never half of it."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, or None if nothing was."""
    return torch.load(path, weights_only=True) if path.exists() else None
