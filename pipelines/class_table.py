"""What training did to each class, over the seeds of a study: step 0, the chosen checkpoint, the floor.

A mean over classes hides the class that training made worse; this table does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.artifacts import Metrics

METRIC = "kd_lite0"
#: A class is learnt where this share of the base's distance above the floor is left, or less.
LEARNT = 1 / 3


@dataclass(frozen=True)
class ClassResult:
    """One class with one seed. Estimates as data, see `components.artifacts.Estimate`."""

    name: str
    seed: int
    step: int
    base: dict[str, Any]
    chosen: dict[str, Any]
    floor: dict[str, Any]
    alignment: dict[str, Any] | None  #: of the chosen checkpoint; None with one class

    @property
    def left(self) -> float:
        """The chosen checkpoint's distance above the floor, as a share of the base's."""
        start = self.base["value"] - self.floor["value"]
        return float((self.chosen["value"] - self.floor["value"]) / start) if start > 0 else float("inf")

    @property
    def learnt(self) -> bool:
        """A third of the distance is left at most, and the base lies surely above it."""
        high = self.chosen["value"] if self.chosen["high"] is None else self.chosen["high"]
        return self.left <= LEARNT and bool(high < self.base["value"])


def results(metrics: Metrics, step: int, seed: int) -> list[ClassResult]:
    """One result a class, for the checkpoint that was chosen; classes in the order of the metrics."""
    rows = {row.step: row for row in metrics.rows()}
    base, chosen = rows[0], rows[step]
    return [
        ClassResult(
            name,
            seed,
            step,
            base.per_class[name][METRIC],
            measured[METRIC],
            metrics.floor_per_class[name][METRIC],
            measured.get("class_alignment"),
        )
        for name, measured in chosen.per_class.items()
    ]


def text(found: Sequence[ClassResult], alignment_floor: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Markdown: how many classes are learnt on every seed, and a row for each class and seed.

    Args:
        found: all classes of all seeds.
        alignment_floor: `Metrics.floor_per_class`, for how well held-out real crops are recognised.
    """
    names = list(dict.fromkeys(result.name for result in found))
    seeds = len({result.seed for result in found})
    learnt = [name for name in names if all(r.learnt for r in found if r.name == name)]
    lines = [
        f"**On {len(learnt)} of {len(names)} classes, with every one of {seeds} seeds, a third or less is left of the "
        "base's distance above the floor, and the upper bound lies below the base's value.**",
    ]
    for name in (name for name in names if name not in learnt):
        bad = [str(r.seed) for r in found if r.name == name and not r.learnt]
        lines.append(f"Not so for {name} (seed {', '.join(bad)}).")
    aligned = found[0].alignment is not None
    lines += [
        "",
        f"`{METRIC}` × 10³ class by class; real against real is the floor.",
        "",
        "| class | seed | base | chosen | real against real | excess left |" + (" recognised |" if aligned else ""),
        "|---|---|---|---|---|---|" + ("---|" if aligned else ""),
    ]
    for name in names:
        for result in (r for r in found if r.name == name):
            cells = [name, str(result.seed), interval(result.base), interval(result.chosen) + _step(result)]
            cells += [interval(result.floor), _share(result)]
            if result.alignment is not None:
                real = alignment_floor[name].get("class_alignment")
                cells.append(f"{result.alignment['value']:.0%}" + (f" (real: {real['value']:.0%})" if real else ""))
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def interval(estimate: dict[str, Any] | None) -> str:
    """A distance × 10³ with its 95 % interval."""
    if estimate is None:
        return "–"
    value, low, high = (None if estimate[k] is None else 1000 * estimate[k] for k in ("value", "low", "high"))
    return f"{value:.1f}" if low is None or high is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _step(result: ClassResult) -> str:
    return f" (step {result.step})" if result.step else " (the base is kept)"


def _share(result: ClassResult) -> str:
    if result.step == 0:
        return "–"
    return f"{result.left:.0%}" if result.learnt else f"{result.left:.0%} (not learnt)"
