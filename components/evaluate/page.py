"""The evaluate step's page: which checkpoint is closest to the real crops, and pictures to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from components import report
from components.artifacts import HEADLINE, PUBLISHED, CheckpointMetrics, Metrics
from components.evaluate import curve, pictures
from components.evaluate.draw import SHOWN, Drawn, Pair
from components.evaluate.measure import MAIN
from components.evaluate.names import Names
from components.evaluate.wording import cell, explained, label

_KERNEL = Names(MAIN).kernel
#: Plotted by training step, below the large plot.
_PLOTTED = ("memorised", "class_alignment", "clip_score", Names(MAIN).diversity, *Names(MAIN).manifold[:2])

Copies = Sequence[tuple[Pair, np.ndarray]]


def page(
    measured: Metrics,
    title: str,
    plot: str,
    real: Mapping[str, np.ndarray],
    drawn: Mapping[int, Drawn],
    copies: Sequence[Copies],
    copies_of: str,
    made_of: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        title: says which run.
        plot: SVG.
        real: class → held-out crops to show, uint8 ``[k, side, side, 3]``.
        drawn: step → what was drawn.
        copies: generated images nearest to a training crop, by features and by pixels, each with that crop,
            uint8 ``[side, side, 3]``.
        copies_of: label of the checkpoint that drew them.
        made_of: what else the reader may want to know of the run: settings, digests, versions.
    """
    published = measured.published()
    rows = [*measured.rows(), *([published] if published is not None else [])]
    sections = [
        _verdict(measured),
        report.Section(figures=[report.Figure(plot, alt="kd_lite0 and fd_lite0 of every checkpoint")]),
        _plots(measured),
        _table(rows, measured),
        *([_by_class(rows, measured)] if len(real) > 1 else []),
        *(_pictures(name, real[name], rows, drawn) for name in real),
        _nearest(copies, copies_of),
        _others(rows, measured),
        _method(measured, made_of),
    ]
    return report.render("Evaluation", title, sections)


def best_row(rows: Sequence[CheckpointMetrics]) -> CheckpointMetrics:
    """The row with the smallest kernel distance."""
    return min((row for row in rows if _KERNEL in row.metrics), key=lambda row: row.metrics[_KERNEL]["value"])


def _verdict(measured: Metrics) -> report.Section:
    rows = measured.rows()
    best, base = best_row(rows), rows[0]
    value, ground = best.metrics[_KERNEL], measured.floor[_KERNEL]
    if best.step == base.step:
        first = (
            f"The base model, untrained, has the smallest kd_lite0: {cell(_KERNEL, value)} × 10⁻³. "
            "Training made it no better by this measure."
        )
        tone = "bad"
    else:
        first = (
            f"{best.label[:1].upper()}{best.label[1:]} has the smallest kd_lite0: {cell(_KERNEL, value)} × 10⁻³, "
            f"against {cell(_KERNEL, base.metrics[_KERNEL])} of the base model."
        )
        improved = value["high"] < base.metrics[_KERNEL]["value"]
        tone = "good" if improved else ""
        first += (
            " The whole interval lies below the base: training helped."
            if improved
            else " The interval reaches the base: with so few images it is not sure that training helped."
        )
    near = value["low"] <= ground["high"]
    second = f"Real crops among themselves are at {cell(_KERNEL, ground)} (training against held-out crops); " + (
        "the two cannot be told apart at this number of images." if near else "there is room for better."
    )
    text = [first, second]
    difference = measured.difference(_KERNEL, best.step, PUBLISHED)
    published = measured.published()
    if published is not None and difference is not None and difference.high is not None and difference.low is not None:
        how = (
            "better than" if difference.high < 0 else "worse than" if difference.low > 0 else "not distinguishable from"
        )
        apart = cell(_KERNEL, {"value": difference.value, "low": difference.low, "high": difference.high})
        text.append(f"It is {how} the model published last ({published.label}): paired difference {apart} × 10⁻³.")
    text.append("Brackets are 95 % intervals. The select_best step decides which checkpoint is kept.")
    return report.Section(text=text, verdict=True, tone=tone)


def _plots(measured: Metrics) -> report.Section:
    figures = [
        report.Figure(curve.small(measured.rows(), measured.floor, name, label(name)), alt=f"{name} by training step")
        for name in _PLOTTED
        if name in measured.floor
    ]
    return report.Section(figures=figures, side_by_side=True)


def _table(rows: Sequence[CheckpointMetrics], measured: Metrics) -> report.Section:
    names = [name for name in HEADLINE if name in measured.floor]
    kd, ground = best_row(measured.rows()).metrics[_KERNEL], measured.floor[_KERNEL]
    classes = len(measured.floor_per_class)
    counts = (
        f"{kd['n']} generated images a checkpoint against {kd['m']} held-out crops; the floor is {ground['n']} "
        f"training against {ground['m']} held-out crops (its fd_lite0 rests on {measured.floor['fd_lite0']['n']})."
    )
    if classes > 1:
        counts += f" Each value is the mean over {classes} classes."
    return report.Section("Every checkpoint", [counts], _metrics_table(rows, measured, names))


def _others(rows: Sequence[CheckpointMetrics], measured: Metrics) -> report.Section:
    names = [name for name in measured.floor if name not in HEADLINE]
    text = ["Without an interval where none is valid at few images: read them beside real against real."]
    return report.Section("Everything else that was measured", text, _metrics_table(rows, measured, names))


def _metrics_table(rows: Sequence[CheckpointMetrics], measured: Metrics, names: Sequence[str]) -> report.Table:
    cells = [[row.label, *(cell(name, row.metrics.get(name)) for name in names)] for row in rows]
    cells.append(["real against real", *(cell(name, measured.floor[name]) for name in names)])
    chosen = rows.index(best_row(measured.rows()))
    return report.Table(["checkpoint", *(label(n) for n in names)], cells, chosen=chosen)


def _by_class(rows: Sequence[CheckpointMetrics], measured: Metrics) -> report.Section:
    best = best_row(measured.rows())
    names = [name for name in HEADLINE if name in measured.floor]
    cells = []
    for defect, floor in measured.floor_per_class.items():
        values = best.per_class[defect]
        cells.append([defect, best.label, *(cell(name, values.get(name)) for name in names)])
        cells.append(["", "real against real", *(cell(name, floor.get(name)) for name in names)])
    table = report.Table(["class", "", *(label(n) for n in names)], cells, numbers_from=2)
    text = [f"Of the checkpoint with the smallest {_KERNEL}. The other checkpoints' are in metrics.tsv."]
    return report.Section("Class by class", text, table)


def _pictures(
    name: str, real: np.ndarray, rows: Sequence[CheckpointMetrics], drawn: Mapping[int, Drawn]
) -> report.Section:
    figures = [report.Figure(pictures.strip(real, SHOWN), "Real, held out: never trained on.", pixelated=True)]
    for row in rows:
        if row.step in drawn:
            value = cell(_KERNEL, row.per_class[name][_KERNEL])
            strip = pictures.strip(drawn[row.step].shown[name], SHOWN)
            figures.append(report.Figure(strip, f"{row.label}: kd_lite0 {value} × 10⁻³", pixelated=True))
    text = ["A column has the same noise at every checkpoint; the images are the first drawn, not chosen."]
    return report.Section(f"Pictures: {name}", text, figures=figures)


def _nearest(copies: Sequence[Copies], copies_of: str) -> report.Section:
    how = ("cosine distances of their features", "grey levels apart on average, at 32 × 32 pixels")
    figures = []
    for pairs, unit in zip(copies, how):
        away = ", ".join(f"{pair.distance:.3g}" for pair, _ in pairs)
        figures.append(
            report.Figure(
                pictures.pairs([pair.image for pair, _ in pairs], [crop for _, crop in pairs]),
                f"Above: the images of {copies_of} that are nearest to a training crop; below: that crop, turned as it "
                f"is nearest. Left to right, {unit}: {away}.",
                pixelated=True,
            )
        )
    return report.Section("Is it copying?", figures=figures)


def _method(measured: Metrics, made_of: Mapping[str, str]) -> report.Section:
    text = [f"{label(name)}: {explained(name)}" for name in measured.floor if explained(name)]
    reasons: dict[str, list[str]] = {}
    for name, reason in measured.absent.items():
        reasons.setdefault(reason, []).append(name)
    text += [f"Not measured: {', '.join(names)}; {reason}." for reason, names in reasons.items()]
    rows = [[name.replace("_", " "), str(value)] for name, value in measured.generation.items()]
    rows += [[f"data: {name.replace('_', ' ')}", value] for name, value in measured.dataset.items() if value]
    for record in (measured.extractor, *measured.other_extractors):
        rows += [[f"{record['name']}: {name.replace('_', ' ')}", value] for name, value in record.items()]
    rows += [[name, value] for name, value in made_of.items()]
    return report.Section("How it was measured", text, report.Table(["", ""], rows, numbers_from=9))
