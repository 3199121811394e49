"""The Inception Score: how sure a classifier is of single images, and how varied its answers are over all."""

from __future__ import annotations

import numpy as np


def inception_score(logits: np.ndarray, splits: int = 1) -> tuple[float, float]:
    """Mean and standard deviation over `splits` of exp(E KL(p(y|x) ‖ p(y))).

    Salimans et al. 2016, "Improved Techniques for Training GANs". It never looks at real images, grows
    with the number of images and is bounded by the images of a split; with one image a split it is 1.0 ± 0
    whatever they show. Splits are taken in the order given. The deviation of one split is 0.

    Args:
        logits: of a classifier, float64 ``[n, classes]``, n ≥ 2 · `splits`.

    Raises:
        ValueError: for fewer than two images a split, where the score says nothing.
    """
    if len(logits) < 2 * splits:
        raise ValueError(f"{len(logits)} images in {splits} splits: with one image a split it is 1 by construction")
    logs = logits - logits.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    scores = []
    for part in np.array_split(logs, splits):
        p = np.exp(part)
        # Where every image's probability underflows to 0, so does the term.
        marginal = np.log(np.maximum(p.mean(0), np.finfo(np.float64).tiny))
        scores.append(np.exp((p * (part - marginal)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if splits > 1 else 0.0
