"""The train step's page: the loss curve and what was published."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from components import report
from components.artifacts import CheckpointIndex


def smooth(losses: Sequence[float], weight: float = 0.95) -> np.ndarray:
    """Exponential moving average, bias-corrected; float64 of the same length."""
    average, smoothed = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        average = weight * average + (1 - weight) * loss
        smoothed[i] = average / (1 - weight ** (i + 1))
    return smoothed


def loss_curve(losses: Sequence[float], checkpoints: Sequence[int]) -> str:
    """SVG of the loss of every step, its moving average, and the steps that were published."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = np.arange(1, len(losses) + 1)
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot(steps, losses, color="#9db4cc", linewidth=0.8, label="each step")
    axes.plot(steps, smooth(losses), color="#0b6bcb", linewidth=2, label="moving average")
    for i, step in enumerate(checkpoints):
        axes.axvline(step, color="#12734a", linewidth=0.8, linestyle=":", label="checkpoint" if i == 0 else None)
    axes.set(xlabel="optimizer step", ylabel="loss", xlim=(0, len(losses) + 1), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return buffer.getvalue()


def page(index: CheckpointIndex, losses: Sequence[float], facts: Sequence[tuple[str, str]]) -> str:
    """The whole page as HTML."""
    rows = [
        [
            str(ref.step),
            f"{ref.images_seen:,}",
            ", ".join(ref.components) or "the base model",
            ref.uri or index.base_uri,
        ]
        for ref in index.refs()
    ]
    curve = report.Figure(
        loss_curve(losses, [ref.step for ref in index.refs() if ref.step]),
        "Mean squared error of the model's prediction, by optimizer step. It is dominated by the noise "
        "levels drawn, so it says that training is stable, not which checkpoint is best: evaluate does.",
        alt="loss curve",
    )
    return report.render(
        "Training",
        f"Run {index.fingerprint} on {index.base_model}",
        [
            report.Section(table=report.Table(["", ""], [list(fact) for fact in facts])),
            report.Section("Loss", figures=[curve]),
            report.Section(
                "Checkpoints",
                table=report.Table(["step", "images seen", "trained parts", "where"], rows, numbers_from=9),
            ),
            report.Section("Prompts", table=report.Table(["class", "prompt"], sorted(index.prompts.items()))),
            report.Section(
                "Settings",
                table=report.Table(["setting", "value"], [[k, str(v)] for k, v in index.settings.items()]),
            ),
        ],
    )
