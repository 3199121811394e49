"""Is the chosen checkpoint better than the model published last?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.artifacts import PUBLISHED, CheckpointMetrics, Estimate, Metrics
from components.select_best import wording
from components.select_best.wording import Mode


@dataclass(frozen=True)
class Comparison:
    """The chosen checkpoint against the model published last."""

    label: str  #: of the published model
    verdict: Literal["better", "worse", "not distinguishable"]
    sentence: str


def compare(chosen: CheckpointMetrics, measured: Metrics, metric: str, mode: Mode) -> Comparison | None:
    """Compare by the paired difference where there is one, by the intervals where not.

    Without any interval nothing can be told apart. None where no published model was measured.
    """
    row = measured.published()
    if row is None or metric not in row.metrics:
        return None
    difference = measured.difference(metric, chosen.step, PUBLISHED)
    low, high = (difference.low, difference.high) if difference is not None else _apart(chosen, row, metric)
    verdict: Literal["better", "worse", "not distinguishable"] = "not distinguishable"
    if low is not None and high is not None and not low <= 0 <= high:
        verdict = "better" if (high < 0) == (mode == "min") else "worse"
    values = f"{wording.shown(metric, chosen.metrics[metric])} against {wording.shown(metric, row.metrics[metric])}"
    what = f"{chosen.label[:1].upper()}{chosen.label[1:]}"
    how = {"better": "is better than", "worse": "is worse than"}.get(verdict, "cannot be told from")
    sentence = f"{what} {how} the model published last ({row.label}): {wording.label(metric)} {values}"
    if difference is not None:
        sentence += f"; paired difference {wording.shown_difference(metric, difference)}"
    elif low is None:
        sentence += f"; {metric} has no interval"
    return Comparison(row.label, verdict, f"{sentence}.")


def _apart(a: CheckpointMetrics, b: CheckpointMetrics, metric: str) -> tuple[float | None, float | None]:
    """The least and the most that the values of two intervals may differ by."""
    one, other = Estimate(**a.metrics[metric]), Estimate(**b.metrics[metric])
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None, None
    return one.low - other.high, one.high - other.low
