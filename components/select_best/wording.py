"""The sentences and numbers of a decision, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from components.artifacts import CheckpointMetrics

Mode = Literal["min", "max"]

_SHARES = ("memorised", "class_alignment")


def label(metric: str) -> str:
    """A metric's name with the unit of `shown`."""
    return f"{metric} × 10³" if metric.startswith("kd_") else metric


def shown(metric: str, estimate: Mapping[str, Any]) -> str:
    """An `Estimate` with its interval: kernel distances in thousandths, shares in per cent."""
    numbers = [estimate[key] for key in ("value", "low", "high") if estimate.get(key) is not None]
    if metric in _SHARES:
        texts, unit = [f"{number:.0%}".removesuffix("%") for number in numbers], " %"
    else:
        texts, unit = [_number(number * (1e3 if metric.startswith("kd_") else 1)) for number in numbers], ""
    return f"{texts[0]}{unit}" + (f" [{texts[1]}, {texts[2]}]" if len(texts) == 3 else "")


def _number(value: float) -> str:
    text = f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    return text.replace("-", "−")


def decision(row: CheckpointMetrics, base: CheckpointMetrics, metric: str, mode: Mode, improved: bool) -> str:
    """Why a trained checkpoint was chosen."""
    trained = "" if improved else "trained "
    what = (
        f"Step {row.step} is the best {trained}checkpoint: {label(metric)} {shown(metric, row.metrics[metric])}, "
        f"against {shown(metric, base.metrics[metric])} of the untrained base."
    )
    if not improved:
        return f"{what} It is not surely better than the base, which the settings exclude (allow_base: false)."
    if row.metrics[metric].get("low") is None:
        return f"{what} {metric} has no interval, so how sure this is remains open."
    return f"{what} Its whole 95 % interval is {'below' if mode == 'min' else 'above'} the base's value."


def kept(base: CheckpointMetrics, candidates: Sequence[CheckpointMetrics], metric: str, mode: Mode) -> str:
    """Why the base was kept."""
    what = f"The untrained base (step 0) is kept: {label(metric)} {shown(metric, base.metrics[metric])}."
    if not candidates:
        return f"{what} No trained checkpoint is a candidate."
    pick = min if mode == "min" else max
    best = pick(candidates, key=lambda row: float(row.metrics[metric]["value"]))
    return (
        f"{what} No trained checkpoint is surely better; the nearest is step {best.step} with "
        f"{shown(metric, best.metrics[metric])}. Train longer or at another learning rate, or add images so that "
        "the intervals narrow."
    )


def left_out(excluded: Mapping[int, str]) -> list[str]:
    """A sentence for each checkpoint that was no candidate."""
    return [f"Step {step} was left out: {why}." for step, why in excluded.items()]
