"""The Inception Score: how sure a classifier is of single images, and how varied its answers are over all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from components.evaluate.metrics.rows import AT_ONCE, Rows


def inception_score(
    rows: Rows,
    splits: int = 1,
    logits: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    order: np.ndarray | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation over `splits` of exp(E KL(p(y|x) ‖ p(y))).

    Salimans et al. 2016, "Improved Techniques for Training GANs". It never looks at real images, grows
    with the number of images and is bounded by the images of a split; with one image a split it is 1.0 ± 0
    whatever they show. The deviation of one split is 0. Computed as Σ p(y|x) log p(y|x) less the marginal's
    entropy terms, which takes one pass and no more than a block of logits in memory.

    Args:
        rows: what `logits` is given: a classifier's logits, or features, float64 ``[n, d]``, n ≥ 2 · `splits`.
        logits: `rows` to a classifier's logits, float64 ``[k, d]`` to ``[k, classes]``.
        order: in which the images are split, int ``[n]``; their own where not given.

    Raises:
        ValueError: for fewer than two images a split, where the score says nothing.
    """
    if len(rows) < 2 * splits:
        raise ValueError(f"{len(rows)} images in {splits} splits: with one image a split it is 1 by construction")
    taken = np.arange(len(rows)) if order is None else order
    scores = [_score(rows, part, logits) for part in np.array_split(taken, splits)]
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if splits > 1 else 0.0


def _score(rows: Rows, chosen: np.ndarray, logits: Callable[[np.ndarray], np.ndarray]) -> float:
    sureness, marginal = 0.0, 0.0
    for start in range(0, len(chosen), AT_ONCE):
        logs = logits(rows[chosen[start : start + AT_ONCE]])
        logs = logs - logs.max(1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        p = np.exp(logs)
        sureness += float((p * logs).sum())
        marginal = marginal + p.sum(0)
    mean = marginal / len(chosen)
    # Where every image's probability underflows to 0, so does the term.
    return float(np.exp(sureness / len(chosen) - (mean * np.log(np.maximum(mean, np.finfo(np.float64).tiny))).sum()))
