"""The decision for people: what was chosen, why, why nothing else, and the numbers it was chosen by.

One content, as HTML for a browser and the pipeline's UI, and as Markdown for a merge request or a mail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components import report
from components.artifacts import HEADLINE, CheckpointIndex, CheckpointMetrics, Metrics
from components.select_best.choose import Choice, NothingToChoose
from components.select_best.config import SelectBestConfig
from components.select_best.wording import label, shown

_TITLE = "Decision"


@dataclass(frozen=True)
class Page:
    """What the page says."""

    reasons: Sequence[str]  #: the decision first
    by: str
    table: report.Table
    settings: Sequence[tuple[str, str]]
    run: str
    tone: str  #: as `report.Section` has it

    def html(self) -> str:
        """For a browser."""
        settings = [[name, value] for name, value in self.settings]
        sections = [
            report.Section(text=self.reasons, verdict=True, tone=self.tone),
            report.Section("What it was chosen by", [self.by], self.table),
            report.Section("Settings", table=report.Table(["setting", "value"], settings, numbers_from=9)),
        ]
        return report.render(_TITLE, self.run, sections)

    def markdown(self) -> str:
        """As Markdown, with the chosen checkpoint in bold."""
        first, *others = self.reasons
        lines = [f"# {_TITLE}", "", f"**{_escaped(first)}**", ""]
        lines += [f"- {_escaped(reason)}" for reason in others]
        lines += ["", _escaped(self.by), "", _row(self.table.header), _row(["---"] * len(self.table.header))]
        for i, row in enumerate(self.table.rows):
            cells = [f"**{cell}**" if i == self.table.chosen and cell else cell for cell in map(_escaped, row)]
            lines.append(_row(cells))
        lines += ["", *(f"- `{name}`: {_escaped(value)}" for name, value in self.settings), "", _escaped(self.run)]
        return "\n".join(lines) + "\n"


def of_choice(choice: Choice, measured: Metrics, index: CheckpointIndex, config: SelectBestConfig) -> Page:
    """The page of a decision."""
    verdicts = {**choice.rejected, choice.row.step: "chosen"}
    tone = "good" if choice.improved else "bad"
    direction = "smallest" if choice.mode == "min" else "largest"
    table = _table(measured, config, verdicts, choice.row.step)
    return _page(choice.reasons, f"By {config.metric}, the {direction} being best.", table, index, config, tone)


def of_refusal(error: NothingToChoose, measured: Metrics, index: CheckpointIndex, config: SelectBestConfig) -> Page:
    """The page where there was nothing to choose."""
    reasons = ["No checkpoint was chosen: none keeps to what the settings ask for.", *error.problems]
    table = _table(measured, config, error.rejected, None)
    return _page(reasons, f"By {config.metric}.", table, index, config, "bad")


def _page(
    reasons: Sequence[str], by: str, table: report.Table, index: CheckpointIndex, config: SelectBestConfig, tone: str
) -> Page:
    settings = [(name, str(value)) for name, value in config.model_dump(mode="json").items()]
    return Page(reasons, by, table, settings, f"Run {index.fingerprint} on {index.base_model}", tone)


def _table(
    measured: Metrics, config: SelectBestConfig, verdicts: Mapping[int, str], chosen: int | None
) -> report.Table:
    wanted = dict.fromkeys([config.metric, *config.constraints, *HEADLINE])
    published = measured.published()
    rows = [*measured.rows(), *([published] if published is not None else [])]
    names = [n for n in wanted if n in measured.floor or any(n in row.metrics for row in rows)]
    cells = [[row.label, *(_cell(row, name) for name in names), verdicts.get(row.step, "")] for row in rows]
    floor = [shown(name, measured.floor[name]) if name in measured.floor else "–" for name in names]
    cells.append(["real against real", *floor, ""])
    at = next((i for i, row in enumerate(rows) if row.step == chosen), None)
    return report.Table(["checkpoint", *map(label, names), "verdict"], cells, at, sentences=len(names) + 1)


def _cell(row: CheckpointMetrics, name: str) -> str:
    return shown(name, row.metrics[name]) if name in row.metrics else "–"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
