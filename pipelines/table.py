"""Text for a terminal: rows as columns of equal width, and measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Metrics whose values are customarily read in thousandths.
THOUSANDTHS = ("kd_", "kid")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row; rows have equally many cells."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def metric(name: str) -> str:
    """A metric's name with the unit that `measured` shows its values in."""
    return f"{name} ×10³" if name.startswith(THOUSANDTHS) else name


def measured(name: str, estimate: Mapping[str, Any] | None) -> str:
    """An estimate (`artifacts.Estimate` as data) of a metric: ``160 [141, 178]``; a dash where there is none."""
    if not estimate or estimate.get("value") is None:
        return "–"
    factor = 1000 if name.startswith(THOUSANDTHS) else 1
    value, low, high = estimate["value"], estimate.get("low"), estimate.get("high")
    shown = f"{value * factor:.3g}"
    return shown if low is None or high is None else f"{shown} [{low * factor:.3g}, {high * factor:.3g}]"
