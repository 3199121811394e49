"""What a run says at its end: the decision, the numbers, what was made and what it cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from components.artifacts import HEADLINE, CheckpointMetrics
from components.progress import duration, size
from pipelines.local import Outcome
from pipelines.table import columns, measured, metric


def text(outcome: Outcome) -> str:
    """The summary, for a terminal."""
    decision = outcome.decision
    parts = ["", "═" * 80, *decision.reasons, ""]
    parts += table(outcome)
    parts += ["", *_places(outcome), "", *_costs(outcome)]
    return "\n".join(parts)


def table(outcome: Outcome) -> list[str]:
    """A line a checkpoint with the metrics that matter most and their intervals; the chosen one is marked."""
    metrics = outcome.metrics
    wanted = dict.fromkeys([outcome.decision.metric, *HEADLINE])
    names = [name for name in wanted if any(name in row.metrics for row in metrics.rows())]
    header = ["", "checkpoint", *map(metric, names)]
    rows = [_row(row, names, decision_step=outcome.decision.step) for row in metrics.rows()]
    rows.append(["", "real vs. real", *(measured(name, metrics.floor.get(name)) for name in names)])
    return _aligned([header, *rows])


def _row(row: CheckpointMetrics, names: Sequence[str], decision_step: int) -> list[str]:
    mark = "►" if row.step == decision_step else ""
    return [mark, row.label, *(measured(name, row.metrics.get(name)) for name in names)]


def _places(outcome: Outcome) -> list[str]:
    folder, model = outcome.folder, outcome.model
    lines = [
        ["report", _shown(folder / "report.html"), "(open it in a browser)"],
        ["decision", _shown(folder / "decision.html"), ""],
        ["picture", _shown(folder / "comparison.png"), "(real crops beside generated ones)"],
        ["images", _shown(folder / "generated"), "(every checkpoint's)"],
        ["model", _shown(outcome.model_file), f"({size(model.bytes)}, step {model.step}; MODEL_CARD.md beside it)"],
        ["published", model.uri, ""],
    ]
    return _aligned(lines)


def _costs(outcome: Outcome) -> list[str]:
    rows = [["step", "time", "peak memory"]]
    for cost in outcome.steps:
        rows.append(
            [
                cost.step,
                "cached" if cost.cached else duration(cost.seconds),
                size(cost.peak_bytes) if cost.peak_bytes else "",
            ]
        )
    rows.append(["whole run", duration(outcome.seconds), f"{size(outcome.peak_bytes)} (largest step + store + runner)"])
    return _aligned(rows)


def _shown(path: Path) -> str:
    """Relative where that is shorter to read."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["  " + line for line in columns(rows)]
