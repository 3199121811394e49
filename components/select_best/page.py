"""The decision's page: what was chosen, why, and the numbers it was chosen by."""

from __future__ import annotations

from components import report
from components.artifacts import CheckpointIndex, CheckpointMetrics, Metrics
from components.select_best.choose import Choice
from components.select_best.config import SelectBestConfig
from components.select_best.wording import label, shown


def page(choice: Choice, measured: Metrics, index: CheckpointIndex, config: SelectBestConfig) -> str:
    """The page as HTML."""
    rows = measured.rows()
    names = [config.metric, *(name for name in measured.floor if name != config.metric)]
    cells = [[row.label, *(_cell(row, name) for name in names), _verdict(row, choice)] for row in rows]
    cells.append(["real against real", *(shown(name, measured.floor[name]) for name in names), ""])
    chosen = [row.step for row in rows].index(choice.row.step)
    table = report.Table(["checkpoint", *(label(name) for name in names), "verdict"], cells, chosen)
    first, *others = choice.reasons
    tone = "good" if choice.improved else "bad"
    sections = [
        report.Section(text=[first, *others], verdict=True, tone=tone),
        report.Section(
            "What it was chosen by",
            [f"By {config.metric}, the {'smallest' if choice.mode == 'min' else 'largest'} being best."],
            table,
        ),
        report.Section(
            "Settings",
            table=report.Table(
                ["setting", "value"],
                [[name, str(value)] for name, value in config.model_dump(mode="json").items()],
                numbers_from=9,
            ),
        ),
    ]
    return report.render("Decision", f"Run {index.fingerprint} on {index.base_model}", sections)


def _cell(row: CheckpointMetrics, name: str) -> str:
    return shown(name, row.metrics[name]) if name in row.metrics else "–"


def _verdict(row: CheckpointMetrics, choice: Choice) -> str:
    if row.step == choice.row.step:
        return "chosen"
    return "left out" if row.step in choice.excluded else ""
