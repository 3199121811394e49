"""The choice itself: rows of metrics in, one row and the reasons for it out. No files.

The rule, in order:

1. Candidates are the trained checkpoints that were measured on enough images and keep to the constraints.
2. A candidate is *better than the base* when the unfavourable end of its 95 % interval is on the good
   side of the base's value; for a metric without an interval, when its value is.
3. If any is, the best value among those wins. With `tie: earliest` it is the earliest among those
   that cannot be told from the best one. Equal values go to the earlier step.
4. If none is, the base is kept; or, with `allow_base: false` or where the base does not keep to the
   constraints, the best value among the candidates wins.

Overlapping intervals alone do not hand the choice to the earlier step: all checkpoints are measured
with the same noise against the same crops, so their differences are surer than each value is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.artifacts import CheckpointMetrics, Estimate, Metrics
from components.errors import UserError
from components.select_best import wording
from components.select_best.config import SelectBestConfig
from components.select_best.incumbent import Comparison, compare
from components.select_best.wording import Mode


@dataclass(frozen=True)
class Choice:
    """The chosen checkpoint and why."""

    row: CheckpointMetrics
    mode: Mode
    improved: bool  #: surely better than the base
    reasons: list[str]  #: sentences, the decision first
    rejected: dict[int, str]  #: every other step → why it was not chosen
    runner_up: CheckpointMetrics | None  #: what would have been chosen without the chosen one
    published: Comparison | None  #: with the model published last, where it was measured


class NothingToChoose(UserError):
    """The constraints leave nothing: `rejected` says of every step why."""

    def __init__(self, problem: str, rejected: dict[int, str]) -> None:
        super().__init__(problem)
        self.rejected = rejected


def choose(measured: Metrics, config: SelectBestConfig) -> Choice:
    """Choose one of the measured checkpoints.

    Raises:
        UserError: for a metric that was not measured or cannot tell checkpoints apart.
        NothingToChoose: when the constraints leave nothing to choose.
    """
    mode, warnings = _mode(measured, config)
    rows = measured.rows()
    base = next((row for row in rows if row.step == 0), None)
    if base is None or config.metric not in base.metrics:
        raise UserError("the metrics hold no untrained base (step 0) to compare with; run evaluate again")
    excluded = _excluded(measured, config)
    candidates = [row for row in rows if row.step != 0 and row.step not in excluded]
    _refuse_degenerate([base, *(row for row in rows if row.step and config.metric in row.metrics)], config)
    base_may_stay = config.allow_base and 0 not in excluded
    if not candidates and not base_may_stay:
        rejected = {0: "the settings exclude the base (allow_base: false)", **excluded}
        raise NothingToChoose(
            "select_best: no checkpoint is left to choose from ("
            + "; ".join(f"{'base' if step == 0 else f'step {step}'}: {why}" for step, why in sorted(rejected.items()))
            + "); loosen select_best.constraints, set select_best.allow_base to true, or train differently",
            rejected,
        )
    sign = 1.0 if mode == "min" else -1.0
    start = _value(base, config.metric)
    better = [row for row in candidates if sign * _worst(row, config.metric, mode) < sign * start]
    pool = better or ([] if base_may_stay else candidates)
    order = sorted(pool, key=lambda row: (sign * _value(row, config.metric), row.step))
    if not order:
        chosen, reasons = base, [wording.kept(base, candidates, config.metric, mode)]
    else:
        best = order[0]
        chosen = _earliest_tie(best, pool, measured, config.metric) if config.tie == "earliest" else best
        reasons = [wording.decision(chosen, base, config.metric, mode, bool(better), 0 in excluded)]
        if chosen is not best:
            reasons.append(wording.tie(chosen, best, config.metric))
    others = [row for row in order if row is not chosen] or sorted(
        (row for row in candidates if row is not chosen), key=lambda row: sign * _value(row, config.metric)
    )
    runner_up = others[0] if others else (base if chosen is not base and base_may_stay else None)
    if runner_up is not None:
        difference = measured.difference(config.metric, chosen.step, runner_up.step)
        reasons.append(wording.runner_up(runner_up, config.metric, difference))
    published = compare(chosen, measured, config.metric, mode)
    if published is not None:
        reasons.append(published.sentence)
    rejected = {
        row.step: excluded.get(row.step) or _why_not(row, chosen, bool(better), pool, measured, config)
        for row in rows
        if row is not chosen
    }
    left_out = {step: why for step, why in excluded.items() if step != 0 or chosen is not base}
    reasons += [*wording.left_out(left_out), *warnings]
    return Choice(chosen, mode, bool(better), reasons, rejected, runner_up, published)


def _mode(measured: Metrics, config: SelectBestConfig) -> tuple[Mode, list[str]]:
    """The direction, and a warning where the user's contradicts the metric's own."""
    known = sorted({metric for row in measured.rows() for metric in row.metrics})
    problems = []
    for key, name in [("metric", config.metric), *((f"constraints.{name}", name) for name in config.constraints)]:
        if name in known:
            continue
        if name in measured.absent:
            problems.append(
                f"select_best.{key}: {name} was not measured: {measured.absent[name]}; measured: {', '.join(known)}"
            )
        else:
            problems.append(f"select_best.{key}: there is no metric {name!r}; measured: {', '.join(known)}")
    if problems:
        raise UserError(*problems)
    name = config.metric
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


def _excluded(measured: Metrics, config: SelectBestConfig) -> dict[int, str]:
    """Step → why it is no candidate."""
    excluded = {}
    for row in measured.rows():
        why = _problem(row, config)
        if why is not None:
            excluded[row.step] = why
    return excluded


def _problem(row: CheckpointMetrics, config: SelectBestConfig) -> str | None:
    if config.metric not in row.metrics:
        return f"{config.metric} could not be measured"
    estimate = Estimate(**row.metrics[config.metric])
    if not math.isfinite(estimate.value):
        return f"{config.metric} is {estimate.value}, which is no number"
    for count, what in ((estimate.n, "generated"), (estimate.m, "real")):
        if count is not None and count < config.min_images:
            return f"{config.metric} rests on {count} {what} images, fewer than min_images = {config.min_images}"
    for name, bound in config.bounds().items():
        if name not in row.metrics:
            return f"{name} was not measured"
        if not bound.holds(_value(row, name)):
            asked = f"{bound.comparison} {wording.number(name, bound.limit)}"
            return f"{name} is {wording.shown(name, row.metrics[name])}, and has to be {asked}"
    return None


def _refuse_degenerate(rows: Sequence[CheckpointMetrics], config: SelectBestConfig) -> None:
    """A metric that is the same everywhere decides nothing, whatever its value."""
    values = {_value(row, config.metric) for row in rows}
    if len(rows) > 1 and len(values) == 1:
        raise UserError(
            f"select_best.metric: {config.metric} is {values.pop():g} at every checkpoint, so it cannot choose one; "
            "set another select_best.metric, or raise evaluate.images_per_class"
        )


def _earliest_tie(
    best: CheckpointMetrics, pool: Sequence[CheckpointMetrics], measured: Metrics, metric: str
) -> CheckpointMetrics:
    estimate = Estimate(**best.metrics[metric])
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high

    def tied(row: CheckpointMetrics) -> bool:
        difference = measured.difference(metric, row.step, best.step)
        if difference is None or difference.low is None or difference.high is None:
            return low <= _value(row, metric) <= high
        return difference.low <= 0 <= difference.high

    return min((row for row in pool if row is best or tied(row)), key=lambda row: row.step)


def _why_not(
    row: CheckpointMetrics, chosen: CheckpointMetrics, improved: bool, pool: Sequence[CheckpointMetrics],
    measured: Metrics, config: SelectBestConfig,
) -> str:  # fmt: skip
    """Of a checkpoint that keeps to the constraints: why another one was chosen."""
    if row.step == 0:
        return f"{chosen.label} is surely better" if improved else "the settings exclude the base (allow_base: false)"
    if row not in pool:
        return "it is not surely better than the base"
    difference = measured.difference(config.metric, row.step, chosen.step)
    return wording.against(row, chosen, config.metric, difference)


def _value(row: CheckpointMetrics, metric: str) -> float:
    return float(row.metrics[metric]["value"])


def _worst(row: CheckpointMetrics, metric: str, mode: Mode) -> float:
    """The unfavourable end of the interval."""
    estimate = Estimate(**row.metrics[metric])
    end = estimate.high if mode == "min" else estimate.low
    return estimate.value if end is None else end
