"""What is raised where a written file is not what it should be: a defect of this step, or a disk that lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Mismatch(RuntimeError):
    """The written file is not what it should be; it must not be published."""


def raise_unless_equal(where: str, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Hold what is known of tensors by name against what it should be.

    Raises:
        Mismatch: naming those that are missing, extra, or of another type or shape.
    """
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    changed = sorted(name for name in wanted.keys() & given.keys() if wanted[name] != given[name])
    said = [
        f"{len(names)} {what} ({few(names)})"
        for what, names in (("missing", missing), ("extra", extra), ("of another type or shape", changed))
        if names
    ]
    if said:
        raise Mismatch(f"{where}: tensors {', '.join(said)}")


def few(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
