"""The plots of a run: metrics of every checkpoint, beside their floors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from components.artifacts import CheckpointMetrics

_BLUE, _GREEN, _GREY, _LIGHT, _RED = "#0b6bcb", "#12734a", "#5b6675", "#dde3ea", "#a15c00"


def curve(
    rows: Sequence[CheckpointMetrics], floor: Mapping[str, Mapping[str, Any]], published: CheckpointMetrics | None
) -> str:
    """The kernel and the Fréchet distance as SVG, narrow enough for a phone.

    Checkpoints are spaced evenly, values are on a linear scale; the model published last is a line.
    """
    measured = [row for row in rows if "kd_lite0" in row.metrics]
    with _figure((7, 5.6), 2, height_ratios=[3, 2], sharex=True) as (axes, buffer):
        upper, lower = axes
        _kernel(upper, [row.metrics["kd_lite0"] for row in measured], floor["kd_lite0"])
        _frechet(lower, [row.metrics["fd_lite0"] for row in measured], floor["fd_lite0"])
        if published is not None and published.metrics:
            for one, name, factor in ((upper, "kd_lite0", 1e3), (lower, "fd_lite0", 1)):
                value = factor * published.metrics[name]["value"]
                one.axhline(value, color=_RED, linestyle="--", label="model published last")
        for one in axes:
            one.legend(frameon=False)
        _steps(lower, measured)
    return buffer.getvalue()


def small(rows: Sequence[CheckpointMetrics], floor: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> str:
    """One metric by training step, as a small SVG; with its interval where it has one."""
    measured = [row for row in rows if metric in row.metrics]
    with _figure((4.2, 2.6), 1) as (axes, buffer):
        (one,) = axes
        estimates = [row.metrics[metric] for row in measured]
        if floor[metric]["low"] is not None:
            one.axhspan(floor[metric]["low"], floor[metric]["high"], color=_GREEN, alpha=0.15, linewidth=0)
        one.axhline(floor[metric]["value"], color=_GREEN)
        one.errorbar(
            range(len(estimates)), [e["value"] for e in estimates], yerr=_spread(estimates, 1), color=_BLUE, marker="o",
            markersize=4, capsize=3,
        )  # fmt: skip
        one.set_title(title, loc="left", fontsize=11)
        _steps(one, measured)
    return buffer.getvalue()


@contextmanager
def _figure(size: tuple[float, float], rows: int, **more: Any) -> Iterator[tuple[Sequence[Any], io.StringIO]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 11, "svg.hashsalt": "defect-diffusion"}):
        figure, made = pyplot.subplots(rows, 1, figsize=size, layout="constrained", squeeze=False, **more)
        axes, buffer = made[:, 0], io.StringIO()
        yield axes, buffer
        for one in axes:
            one.spines[["top", "right"]].set_visible(False)
            one.grid(axis="y", color=_LIGHT, linewidth=0.8)
            one.set_axisbelow(True)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _steps(axes: Any, rows: Sequence[CheckpointMetrics]) -> None:
    axes.set_xticks(range(len(rows)), ["base" if row.step == 0 else str(row.step) for row in rows])
    axes.set_xlabel("training step")


def _spread(estimates: Sequence[Mapping[str, Any]], factor: float) -> list[list[float]] | None:
    if any(e["low"] is None for e in estimates):
        return None
    return [
        [factor * (e["value"] - e["low"]) for e in estimates],
        [factor * (e["high"] - e["value"]) for e in estimates],
    ]


def _kernel(axes: Any, estimates: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    values = [1e3 * e["value"] for e in estimates]
    axes.axhspan(1e3 * floor["low"], 1e3 * floor["high"], color=_GREEN, alpha=0.15, linewidth=0)
    axes.axhline(1e3 * floor["value"], color=_GREEN, label="real against real, 95 %")
    line = {"color": _BLUE, "marker": "o", "markersize": 5, "capsize": 4}
    axes.errorbar(range(len(values)), values, yerr=_spread(estimates, 1e3), label="checkpoint, 95 %", **line)
    axes.set_title("kd_lite0 × 10³: lower is closer to the real crops", loc="left", fontsize=11)


def _frechet(axes: Any, estimates: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    values, n = [e["value"] for e in estimates], estimates[0]["n"]
    axes.axhline(floor["value"], color=_GREEN, label=f"real against real, n = {floor['n']}")
    axes.plot(range(len(values)), values, color=_GREY, marker="o", markersize=5, label=f"checkpoint, n = {n}")
    axes.set_ylim(bottom=0)
    axes.set_title("fd_lite0: no interval is valid", loc="left", fontsize=11)
