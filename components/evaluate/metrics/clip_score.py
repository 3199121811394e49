"""The CLIP score: how well images fit the texts that they were drawn from."""

from __future__ import annotations

import numpy as np


def clip_scores(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """100 · cosine of each image's and its text's embedding, float64 ``[n]``.

    Hessel et al. 2021, "CLIPScore", scaled by 100 as programs do, where the paper takes 2.5 and cuts single
    values off at 0; a mean over images is what is commonly reported.

    Args:
        images: CLIP's projected image embeddings, float64 ``[n, d]``.
        texts: those of the texts, float64 ``[n, d]``.
    """
    cosine = (images * texts).sum(1) / (np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1))
    return np.asarray(100 * cosine)
