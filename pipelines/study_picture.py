"""The picture of a study: generated images only, so that it can be shown where the real ones must not be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.report import contact_sheet
from pipelines import local

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 96
_GAP = 4
_COLUMNS = 12
#: With several classes, so many columns show the base and the others the chosen checkpoint.
_BASE_COLUMNS = 3
_LABEL = 130


def draw(outcome: local.Outcome) -> Image.Image:
    """One class: a row a checkpoint, a column one noise. Several: a row a class, the base left, the choice right."""
    folders = _checkpoint_folders(outcome)
    classes = sorted(outcome.decision.index["prompts"])
    if len(classes) == 1:
        labels = [row.label for row in outcome.metrics.rows() if row.metrics]
        return _labelled(labels, [_images(folder, classes[0], _COLUMNS) for folder in folders])
    steps = [row.step for row in outcome.metrics.rows() if row.metrics]
    base, chosen = folders[0], folders[steps.index(outcome.decision.step)]
    rows = []
    for name in classes:
        rows.append(_images(base, name, _BASE_COLUMNS) + _images(chosen, name, _COLUMNS - _BASE_COLUMNS))
    return _labelled(classes, rows)


def caption(outcome: local.Outcome, seed: int) -> str:
    """What the picture shows, in a sentence."""
    if len(outcome.decision.index["prompts"]) == 1:
        return f"Generated images of seed {seed}, not picked; a row a checkpoint, a column one noise."
    label = f"step {outcome.decision.step}" if outcome.decision.step else "the base again"
    return (
        f"Generated images of seed {seed}, not picked; a row a class: left {_BASE_COLUMNS} of the base model, right "
        f"{_COLUMNS - _BASE_COLUMNS} of {label}, from the same noise in the same order."
    )


def _checkpoint_folders(outcome: local.Outcome) -> list[Path]:
    """Rising steps, the base first; a checkpoint that drew nothing has none."""
    return sorted(path for path in (outcome.folder / "generated").iterdir() if path.is_dir())


def _images(folder: Path, name: str, count: int) -> list[Path]:
    return sorted((folder / name).glob("*.png"))[:count]


def _labelled(labels: Sequence[str], rows: Sequence[Sequence[Path]]) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    from components.decoding import read

    columns = min(len(row) for row in rows)
    sheet = contact_sheet([read(path) for row in rows for path in row[:columns]], columns, _SIDE, _GAP)
    labelled = Image.new("RGB", (sheet.width + _LABEL, sheet.height), "white")
    labelled.paste(sheet, (_LABEL, 0))
    pen, font = ImageDraw.Draw(labelled), ImageFont.load_default(18)
    for i, label in enumerate(labels):
        pen.text((_LABEL - 8, _GAP + i * (_SIDE + _GAP) + _SIDE / 2), label, "black", font, anchor="rm")
    return labelled
