"""The train step's page: loss, gradient norm and learning rate by step, and what was published."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from components import report
from components.artifacts import CheckpointIndex
from components.train.history import History, smooth

_THIN = {"color": "#9db4cc", "linewidth": 0.8}
_ABOVE: dict[str, Any] = {"frameon": False, "ncols": 3, "loc": "lower left", "bbox_to_anchor": (0, 1)}
_MARKED = {"color": "#12734a", "linewidth": 0.8, "linestyle": ":"}


def loss_curve(losses: Sequence[float], checkpoints: Sequence[int]) -> str:
    """SVG of the loss of every step, its moving average, and the steps that were published."""
    figure, axes = _axes(3.2)
    axes.plot(np.arange(1, len(losses) + 1), losses, **_THIN, label="each step")
    axes.plot(np.arange(1, len(losses) + 1), smooth(losses), color="#0b6bcb", linewidth=2, label="moving average")
    for i, step in enumerate(checkpoints):
        axes.axvline(step, **_MARKED, label="checkpoint" if i == 0 else None)
    axes.set(xlabel="optimizer step", ylabel="loss", xlim=(0, len(losses) + 1), ylim=(0, None))
    axes.legend(**_ABOVE)
    return _svg(figure)


def gradient_curve(norms: Sequence[float], rates: Sequence[float], limit: float) -> str:
    """SVG of the gradients' norm before clipping at `limit`, and of the learning rate."""
    figure, axes = _axes(2.4)
    axes.plot(np.arange(1, len(norms) + 1), norms, **_THIN, label="gradient norm")
    axes.axhline(limit, **_MARKED, label="clipped above")
    axes.set(xlabel="optimizer step", ylabel="gradient norm", xlim=(0, len(norms) + 1), yscale="log")
    right = axes.twinx()
    right.plot(np.arange(1, len(rates) + 1), rates, color="#b3261e", linewidth=1.5, label="learning rate")
    right.set(ylabel="learning rate", ylim=(0, None))
    right.spines[["top", "left"]].set_visible(False)
    lines = [*axes.get_lines(), *right.get_lines()]
    right.legend(lines, [line.get_label() for line in lines], **_ABOVE)
    return _svg(figure)


def page(index: CheckpointIndex, history: History, facts: Sequence[tuple[str, str]], stopped: str = "") -> str:
    """The whole page as HTML; `stopped` is why training ended early."""
    figures = []
    if history.losses:
        figures = [
            report.Figure(
                loss_curve(history.losses, [ref.step for ref in index.refs() if ref.step]),
                "Mean squared error of the model's prediction, by optimizer step. It is dominated by the noise "
                "levels drawn, so it says that training is stable, not which checkpoint is best: evaluate does.",
                alt="loss curve",
            ),
            report.Figure(
                gradient_curve(history.norms, history.rates, index.settings["max_grad_norm"]),
                "Norm of all gradients together before clipping, and the learning rate.",
                alt="gradient norm and learning rate",
            ),
        ]
    rows = [
        [str(ref.step), f"{ref.images_seen:,}", ", ".join(ref.components) or "the base", ref.uri or index.base_uri]
        for ref in index.refs()
    ]
    return report.render(
        "Training",
        f"Run {index.fingerprint} on {index.base_model}",
        [
            *([report.Section(text=["Training was stopped.", stopped], verdict=True, tone="bad")] if stopped else []),
            report.Section(table=report.Table(["", ""], [list(fact) for fact in facts])),
            report.Section("Loss", figures=figures),
            report.Section(
                "Checkpoints",
                table=report.Table(["step", "images seen", "trained parts", "where"], rows, numbers_from=9),
            ),
            report.Section(
                "Prompts", table=report.Table(["class", "prompt"], sorted(index.prompts.items()), numbers_from=2)
            ),
            report.Section(
                "Settings",
                table=report.Table(
                    ["setting", "value"], [[k, str(v)] for k, v in index.settings.items()], numbers_from=2
                ),
            ),
        ],
    )


def _axes(height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return buffer.getvalue()
