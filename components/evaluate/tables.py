"""The numbers as tab-separated tables, for spreadsheets and other programs."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from components.artifacts import Metrics
from components.evaluate.draw import ImageRow
from components.evaluate.measure import MAIN
from components.evaluate.names import Names

_METRICS = ("checkpoint", "class", "metric", "extractor", "value", "low", "high", "n", "m")


def write_metrics(path: Path, measured: Metrics) -> None:
    """A line for each checkpoint, class (``all``: their mean) and metric; real against real is a checkpoint, too."""
    published = measured.published()
    rows = [*measured.rows(), *([published] if published is not None else [])]
    named = [(row.label, row.metrics, row.per_class) for row in rows]
    named.append(("real against real", measured.floor, measured.floor_per_class))
    lines: list[list[Any]] = []
    for label, overall, per_class in named:
        for name, estimates in (("all", overall), *per_class.items()):
            for metric, e in estimates.items():
                values = [e[key] for key in ("value", "low", "high", "n", "m")]
                lines.append([label, name, metric, extractor_of(metric), *values])
    _write(path, [_METRICS, *lines])


def add_images(path: Path, label: str, rows: Sequence[ImageRow]) -> None:
    """Add a line for each image that the checkpoint `label` drew, kept or not, to a table that may not be there yet."""
    header = ["checkpoint", *(field.name for field in dataclasses.fields(ImageRow))]
    lines = [[label, *dataclasses.astuple(row)] for row in rows]
    _write(path, lines if path.exists() else [header, *lines], mode="a")


def extractor_of(metric: str) -> str:
    """The network whose features a metric rests on; ``pixels`` for none."""
    if metric == "memorised_pixels":
        return "pixels"
    if metric in ("fid", "kid", "kid_subsets", "inception_score"):
        return "inception"
    if metric == "clip_score":
        return "clip"
    return next((e for e in Names.EXTRACTORS if e in metric.split("_")), MAIN)


def _write(path: Path, lines: Iterable[Sequence[Any]], mode: str = "w") -> None:
    with path.open(mode, newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
