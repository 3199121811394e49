"""The evaluate step's page: which checkpoint is closest to the real crops, and pictures to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components import report
from components.artifacts import CheckpointMetrics, Metrics
from components.evaluate import pictures
from components.evaluate.draw import SHOWN, Drawn, Pair

_NAMES = {
    "kd_lite0": "kd_lite0 × 10³",
    "fd_lite0": "fd_lite0",
    "memorised": "memorised",
    "nearest_train": "nearest training crop",
    "class_alignment": "class alignment",
}
_EXPLAINED = {
    "kd_lite0": "kernel distance (unbiased MMD², cubic kernel) on EfficientNet-Lite0 features. Lower is closer to "
    "the held-out crops; 0 and below is as close as can be measured. It does not depend on the number of images.",
    "fd_lite0": "Fréchet distance on the same features. Biased upwards at few images, so compare it with the floor "
    "only where the numbers of images agree; it has no valid interval.",
    "memorised": "share of generated images that are closer to a training crop than 99 % of the held-out crops are.",
    "nearest_train": "median cosine distance to the nearest training crop, to be read beside the floor: well below "
    "it is copying, well above it is unlike the real parts.",
    "class_alignment": "share of images that a linear probe, fitted to the training crops, recognises as the class "
    "that was asked for; the floor is its accuracy on held-out crops. It can rise while images get worse.",
}


def page(
    measured: Metrics,
    title: str,
    curve: str,
    real: Mapping[str, np.ndarray],
    drawn: Mapping[int, Drawn],
    pairs: Sequence[tuple[Pair, np.ndarray]],
    pairs_of: str,
) -> str:
    """The page as HTML.

    Args:
        title: says which run.
        curve: SVG.
        real: class → held-out crops to show, uint8 ``[k, side, side, 3]``.
        drawn: step → what was drawn.
        pairs: generated images nearest to a training crop, with that crop, uint8 ``[side, side, 3]``.
        pairs_of: label of the checkpoint that drew them.
    """
    rows = measured.rows()
    sections = [
        _verdict(rows, measured.floor),
        report.Section(figures=[report.Figure(curve, alt="kd_lite0 and fd_lite0 of every checkpoint")]),
        _table(rows, measured),
        *([_by_class(rows, measured)] if len(real) > 1 else []),
        *(_pictures(name, real[name], rows, drawn) for name in real),
        _nearest(pairs, pairs_of),
        _method(measured),
    ]
    return report.render("Evaluation", title, sections)


def best_row(rows: Sequence[CheckpointMetrics]) -> CheckpointMetrics:
    """The row with the smallest kernel distance."""
    return min((row for row in rows if "kd_lite0" in row.metrics), key=lambda row: row.metrics["kd_lite0"]["value"])


def _verdict(rows: Sequence[CheckpointMetrics], floor: Mapping[str, Mapping[str, Any]]) -> report.Section:
    best, base = best_row(rows), rows[0]
    value = best.metrics["kd_lite0"]
    ground = floor["kd_lite0"]
    if best.step == base.step:
        first = (
            f"The base model, untrained, has the smallest kd_lite0: {_cell('kd_lite0', value)} × 10⁻³. "
            "Training made it no better by this measure."
        )
        tone = "bad"
    else:
        first = (
            f"{best.label[:1].upper()}{best.label[1:]} has the smallest kd_lite0: {_cell('kd_lite0', value)} × 10⁻³, "
            f"against {_cell('kd_lite0', base.metrics['kd_lite0'])} of the base model."
        )
        improved = value["high"] < base.metrics["kd_lite0"]["value"]
        tone = "good" if improved else ""
        first += (
            " The whole interval lies below the base: training helped."
            if improved
            else " The interval reaches the base: with so few images it is not sure that training helped."
        )
    near = value["low"] <= ground["high"]
    second = f"Real crops among themselves are at {_cell('kd_lite0', ground)} (training against held-out crops); " + (
        "the two cannot be told apart at this number of images." if near else "there is room for better."
    )
    third = "Brackets are 95 % intervals. The select_best step decides which checkpoint is kept."
    return report.Section(text=[first, second, third], verdict=True, tone=tone)


def _table(rows: Sequence[CheckpointMetrics], measured: Metrics) -> report.Section:
    names = [name for name in _NAMES if name in measured.floor]
    cells = [[row.label, *(_cell(name, row.metrics.get(name)) for name in names)] for row in rows]
    cells.append(["real against real", *(_cell(name, measured.floor[name]) for name in names)])
    kd, ground = best_row(rows).metrics["kd_lite0"], measured.floor["kd_lite0"]
    classes = len(measured.floor_per_class)
    counts = (
        f"{kd['n']} generated images a checkpoint against {kd['m']} held-out crops; the floor is {ground['n']} "
        f"training against {ground['m']} held-out crops (its fd_lite0 rests on {measured.floor['fd_lite0']['n']})."
    )
    if classes > 1:
        counts += f" Each value is the mean over {classes} classes."
    table = report.Table(["checkpoint", *(_NAMES[n] for n in names)], cells, chosen=rows.index(best_row(rows)))
    return report.Section("Every checkpoint", [counts], table)


def _by_class(rows: Sequence[CheckpointMetrics], measured: Metrics) -> report.Section:
    classes = list(measured.floor_per_class)
    cells = [
        [row.label, *(_cell("kd_lite0", row.per_class.get(c, {}).get("kd_lite0")) for c in classes)] for row in rows
    ]
    ground = (_cell("kd_lite0", measured.floor_per_class[c]["kd_lite0"]) for c in classes)
    cells.append(["real against real", *ground])
    return report.Section("kd_lite0 × 10³ by class", table=report.Table(["checkpoint", *classes], cells))


def _pictures(
    name: str, real: np.ndarray, rows: Sequence[CheckpointMetrics], drawn: Mapping[int, Drawn]
) -> report.Section:
    figures = [report.Figure(pictures.strip(real, SHOWN), "Real, held out: never trained on.", pixelated=True)]
    for row in rows:
        if row.step in drawn:
            value = _cell("kd_lite0", row.per_class[name]["kd_lite0"])
            strip = pictures.strip(drawn[row.step].shown[name], SHOWN)
            figures.append(report.Figure(strip, f"{row.label}: kd_lite0 {value} × 10⁻³", pixelated=True))
    text = ["A column has the same noise at every checkpoint; the images are the first drawn, not chosen."]
    return report.Section(f"Pictures: {name}", text, figures=figures)


def _nearest(pairs: Sequence[tuple[Pair, np.ndarray]], pairs_of: str) -> report.Section:
    away = ", ".join(f"{pair.distance:.3f}" for pair, _ in pairs)
    figure = report.Figure(
        pictures.pairs([pair.image for pair, _ in pairs], [crop for _, crop in pairs]),
        f"Above: the images of {pairs_of} that are nearest to a training crop; below: that crop. "
        f"Cosine distances of their features, left to right: {away}.",
        pixelated=True,
    )
    return report.Section("Is it copying?", figures=[figure])


def _method(measured: Metrics) -> report.Section:
    text = [f"{_NAMES[name]}: {meaning}" for name, meaning in _EXPLAINED.items() if name in measured.floor]
    text += [f"{name} is not measured: {reason}." for name, reason in measured.absent.items()]
    rows = [[name.replace("_", " "), str(value)] for name, value in measured.generation.items()]
    rows += [[f"extractor: {name.replace('_', ' ')}", value] for name, value in measured.extractor.items()]
    return report.Section("How it was measured", text, report.Table(["", ""], rows, numbers_from=9))


def _cell(name: str, estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return "–"
    factor, digits = {"kd_lite0": (1e3, 1), "fd_lite0": (1, 1), "nearest_train": (1, 3)}.get(name, (100, 0))
    unit = " %" if name in ("memorised", "class_alignment") else ""

    def shown(value: float) -> str:
        text = f"{value * factor:.{digits}f}"
        return text.replace("-", "−") if float(text) else text.lstrip("-")

    if estimate["low"] is None:
        return shown(estimate["value"]) + unit
    return f"{shown(estimate['value'])}{unit} [{shown(estimate['low'])}, {shown(estimate['high'])}]"
