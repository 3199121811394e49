"""The choice itself: rows of metrics in, one row and the reasons for it out. No files.

The rule, in order:

1. Candidates are the trained checkpoints that were measured and keep to the constraints.
2. A candidate is *better than the base* when the unfavourable end of its 95 % interval is on the good
   side of the base's value; for a metric without an interval, when its value is.
3. If any is, the best value among those wins. With `prefer_earlier` it is the earliest among those
   whose value lies within the best one's interval. Equal values go to the earlier step.
4. If none is, the base is kept; or, with `allow_base: false`, the best value among the candidates.

Overlapping intervals alone do not hand the choice to the earlier step: all checkpoints are measured
with the same noise against the same crops, so their differences are surer than each value is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.artifacts import CheckpointMetrics, Estimate, Metrics
from components.errors import UserError
from components.select_best import wording
from components.select_best.config import SelectBestConfig
from components.select_best.wording import Mode


@dataclass(frozen=True)
class Choice:
    """The chosen checkpoint and why."""

    row: CheckpointMetrics
    mode: Mode
    improved: bool  #: surely better than the base
    reasons: list[str]  #: sentences, the decision first
    excluded: dict[int, str]  #: step → why it was no candidate


def choose(measured: Metrics, config: SelectBestConfig) -> Choice:
    """Choose one of the measured checkpoints.

    Raises:
        UserError: for a metric that was not measured or cannot tell checkpoints apart, and when the
            constraints leave nothing to choose.
    """
    mode, warnings = _mode(measured, config)
    rows = measured.rows()
    base = next((row for row in rows if row.step == 0), None)
    if base is None or config.metric not in base.metrics:
        raise UserError("the metrics hold no untrained base (step 0) to compare with; run evaluate again")
    candidates, excluded = _candidates(rows, config)
    _refuse_degenerate([base, *(row for row in rows if row.step and config.metric in row.metrics)], config)
    if not candidates and not config.allow_base:
        raise UserError(
            "select_best: no trained checkpoint is left to choose from ("
            + "; ".join(f"step {step}: {why}" for step, why in excluded.items())
            + "); raise select_best.max_memorised or set select_best.allow_base to true"
        )
    sign = 1.0 if mode == "min" else -1.0
    start = _value(base, config.metric)
    better = [row for row in candidates if sign * _worst(row, config.metric, mode) < sign * start]
    pool = better or ([] if config.allow_base else candidates)
    if not pool:
        reasons = [wording.kept(base, candidates, config.metric, mode)]
        return Choice(base, mode, False, [*reasons, *wording.left_out(excluded), *warnings], excluded)

    best = min(pool, key=lambda row: (sign * _value(row, config.metric), row.step))
    chosen = _earliest_tie(best, pool, config.metric) if config.prefer_earlier else best
    reasons = [wording.decision(chosen, base, config.metric, mode, bool(better))]
    if chosen is not best:
        nominal = wording.shown(config.metric, best.metrics[config.metric])
        reasons.append(
            f"Step {best.step} is nominally better ({nominal}), but step {chosen.step} lies within its interval and "
            "is earlier (prefer_earlier)."
        )
    return Choice(chosen, mode, bool(better), [*reasons, *wording.left_out(excluded), *warnings], excluded)


def _mode(measured: Metrics, config: SelectBestConfig) -> tuple[Mode, list[str]]:
    """The direction, and a warning where the user's contradicts the metric's own."""
    name = config.metric
    known = sorted({metric for row in measured.rows() for metric in row.metrics})
    if name in measured.absent:
        raise UserError(
            f"select_best.metric: {name} was not measured: {measured.absent[name]}; measured: {', '.join(known)}"
        )
    if name not in known:
        raise UserError(f"select_best.metric: there is no metric {name!r}; measured: {', '.join(known)}")
    higher = measured.higher_is_better.get(name)
    if higher is None and config.mode == "auto":
        usable = ", ".join(sorted(measured.higher_is_better))
        raise UserError(
            f"select_best.metric: neither end of {name} is good; choose by one of {usable}, or set select_best.mode"
        )
    if config.mode == "auto":
        return ("max" if higher else "min"), []
    if higher is not None and higher != (config.mode == "max"):
        direction = "largest" if config.mode == "max" else "smallest"
        return config.mode, [
            f"Warning: mode {config.mode} takes the {direction} {name}, which is its bad end; it is what the "
            "settings ask for."
        ]
    return config.mode, []


def _candidates(
    rows: Sequence[CheckpointMetrics], config: SelectBestConfig
) -> tuple[list[CheckpointMetrics], dict[int, str]]:
    candidates, excluded = [], {}
    for row in rows:
        if row.step == 0:
            continue
        share = row.metrics.get("memorised", {}).get("value")
        if config.metric not in row.metrics:
            excluded[row.step] = f"{config.metric} could not be measured"
        elif config.max_memorised is None:
            candidates.append(row)
        elif share is None:
            excluded[row.step] = "memorised was not measured"
        elif share > config.max_memorised:
            excluded[row.step] = f"{share:.0%} of its images are memorised, above {config.max_memorised:.0%}"
        else:
            candidates.append(row)
    return candidates, excluded


def _refuse_degenerate(rows: Sequence[CheckpointMetrics], config: SelectBestConfig) -> None:
    """A metric that is the same everywhere decides nothing, whatever its value."""
    values = {_value(row, config.metric) for row in rows}
    if len(rows) > 1 and len(values) == 1:
        raise UserError(
            f"select_best.metric: {config.metric} is {values.pop():g} at every checkpoint, so it cannot choose one; "
            "set another select_best.metric, or raise evaluate.images_per_class"
        )


def _earliest_tie(best: CheckpointMetrics, pool: Sequence[CheckpointMetrics], metric: str) -> CheckpointMetrics:
    estimate = Estimate(**best.metrics[metric])
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return min((row for row in pool if low <= _value(row, metric) <= high), key=lambda row: row.step)


def _value(row: CheckpointMetrics, metric: str) -> float:
    return float(row.metrics[metric]["value"])


def _worst(row: CheckpointMetrics, metric: str, mode: Mode) -> float:
    """The unfavourable end of the interval."""
    estimate = Estimate(**row.metrics[metric])
    end = estimate.high if mode == "min" else estimate.low
    return estimate.value if end is None else end
