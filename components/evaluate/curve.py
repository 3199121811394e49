"""The plot of a run: the kernel and the Fréchet distance of every checkpoint, beside their floors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from components.artifacts import CheckpointMetrics

_BLUE, _GREEN, _GREY, _LIGHT = "#0b6bcb", "#12734a", "#5b6675", "#dde3ea"


def curve(rows: Sequence[CheckpointMetrics], floor: Mapping[str, Mapping[str, Any]]) -> str:
    """SVG, narrow enough for a phone. Checkpoints are spaced evenly, values are on a linear scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = [row for row in rows if "kd_lite0" in row.metrics]
    with pyplot.rc_context({"font.size": 11, "svg.hashsalt": "defect-diffusion"}):
        figure, (upper, lower) = pyplot.subplots(
            2, 1, figsize=(7, 5.6), layout="constrained", height_ratios=[3, 2], sharex=True
        )
        _kernel(upper, [row.metrics["kd_lite0"] for row in measured], floor["kd_lite0"])
        _frechet(lower, [row.metrics["fd_lite0"] for row in measured], floor["fd_lite0"])
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=_LIGHT, linewidth=0.8)
            axes.set_axisbelow(True)
        lower.set_xticks(range(len(measured)), ["base" if row.step == 0 else str(row.step) for row in measured])
        lower.set_xlabel("training step")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()


def _kernel(axes: Any, estimates: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    values = [1e3 * e["value"] for e in estimates]
    spread = [
        [1e3 * (e["value"] - e["low"]) for e in estimates],
        [1e3 * (e["high"] - e["value"]) for e in estimates],
    ]
    axes.axhspan(1e3 * floor["low"], 1e3 * floor["high"], color=_GREEN, alpha=0.15, linewidth=0)
    axes.axhline(1e3 * floor["value"], color=_GREEN, label="real against real, 95 %")
    line = {"color": _BLUE, "marker": "o", "markersize": 5, "capsize": 4}
    axes.errorbar(range(len(values)), values, yerr=spread, label="checkpoint, 95 %", **line)
    axes.set_title("kd_lite0 × 10³: lower is closer to the real crops", loc="left", fontsize=11)
    axes.legend(frameon=False)


def _frechet(axes: Any, estimates: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    values, n = [e["value"] for e in estimates], estimates[0]["n"]
    axes.axhline(floor["value"], color=_GREEN, label=f"real against real, n = {floor['n']}")
    axes.plot(range(len(values)), values, color=_GREY, marker="o", markersize=5, label=f"checkpoint, n = {n}")
    axes.set_ylim(bottom=0)
    axes.set_title("fd_lite0: no interval is valid", loc="left", fontsize=11)
    axes.legend(frameon=False)
