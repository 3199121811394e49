"""The sentences and numbers of a decision, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from components.artifacts import CheckpointMetrics, Estimate

Mode = Literal["min", "max"]

_SHARES = ("memorised", "class_alignment", "precision", "recall", "coverage")
_THOUSANDTHS = ("kd_", "kid")


def label(metric: str) -> str:
    """A metric's name with the unit of `shown`."""
    return f"{metric} × 10³" if metric.startswith(_THOUSANDTHS) else metric


def shown(metric: str, estimate: Mapping[str, Any]) -> str:
    """An `Estimate` with its interval: kernel distances in thousandths, shares in per cent."""
    numbers = [estimate[key] for key in ("value", "low", "high") if estimate.get(key) is not None]
    if metric.startswith(_SHARES):
        texts, unit = [f"{number:.0%}".removesuffix("%") for number in numbers], " %"
    else:
        factor = 1e3 if metric.startswith(_THOUSANDTHS) else 1
        texts, unit = [_number(value * factor) for value in numbers], ""
    return f"{texts[0]}{unit}" + (f" [{texts[1]}, {texts[2]}]" if len(texts) == 3 else "")


def number(metric: str, value: float) -> str:
    """A bound, in the unit of `shown`."""
    if metric.startswith(_SHARES):
        return f"{100 * value:g} %"
    return f"{value * (1e3 if metric.startswith(_THOUSANDTHS) else 1):g}"


def shown_difference(metric: str, difference: Estimate) -> str:
    """A difference of two values with its interval, in the unit of `shown`."""
    return shown(metric, {"value": difference.value, "low": difference.low, "high": difference.high})


def _number(value: float) -> str:
    text = f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    return text.replace("-", "−")


def decision(
    row: CheckpointMetrics, base: CheckpointMetrics, metric: str, mode: Mode, improved: bool, base_excluded: bool
) -> str:
    """Why a trained checkpoint was chosen."""
    trained = "" if improved else "trained "
    what = (
        f"Step {row.step} is the best {trained}checkpoint: {label(metric)} {shown(metric, row.metrics[metric])}, "
        f"against {shown(metric, base.metrics[metric])} of the untrained base."
    )
    if not improved:
        why = "does not keep to the constraints" if base_excluded else "the settings exclude (allow_base: false)"
        return f"{what} It is not surely better than the base, which {why}."
    if row.metrics[metric].get("low") is None:
        return f"{what} {metric} has no interval, so how sure this is remains open."
    return f"{what} Its whole 95 % interval is {'below' if mode == 'min' else 'above'} the base's value."


def tie(chosen: CheckpointMetrics, best: CheckpointMetrics, metric: str) -> str:
    """Why an earlier checkpoint was taken than the one with the best value."""
    nominal = shown(metric, best.metrics[metric])
    return (
        f"Step {best.step} is nominally better ({nominal}), but step {chosen.step} cannot be told from it and is "
        "earlier (tie: earliest)."
    )


def runner_up(row: CheckpointMetrics, metric: str, difference: Estimate | None) -> str:
    """What comes next, and how far behind."""
    behind = f"; paired difference {shown_difference(metric, difference)}" if difference is not None else ""
    return f"The runner-up is {_name(row)} with {shown(metric, row.metrics[metric])}{behind}."


def against(row: CheckpointMetrics, chosen: CheckpointMetrics, metric: str, difference: Estimate | None) -> str:
    """Why a candidate that is better than the base was not chosen."""
    values = (
        f"{shown(metric, row.metrics[metric])} against {shown(metric, chosen.metrics[metric])} of step {chosen.step}"
    )
    if difference is None or difference.low is None or difference.high is None:
        return values
    sure = "which is surely another value" if not difference.low <= 0 <= difference.high else "not distinguishable"
    return f"{values}, {sure} (paired difference {shown_difference(metric, difference)})"


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
    names = {step: "The base" if step == 0 else f"Step {step}" for step in excluded}
    return [f"{names[step]} was left out: {why}." for step, why in excluded.items()]


def _name(row: CheckpointMetrics) -> str:
    return "the untrained base" if row.step == 0 else f"step {row.step}"
