"""Metrics for people: how each is called on a page, what it means, how its values are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluate.names import Names, is_kernel

_SHARES = ("memorised", "class_alignment", "precision", "recall", "coverage")
_NETWORKS = {
    "lite0": "EfficientNet-Lite0 features",
    "inception": "the features of FID's Inception",
    "dinov2": "DINOv2 features",
    "clip": "CLIP image embeddings",
}
_LABELS = {
    "memorised": "memorised",
    "memorised_pixels": "memorised, by pixels",
    "nearest_train": "nearest training crop",
    "class_alignment": "class alignment",
    "clip_score": "CLIP score",
    "is_lite0": "is_lite0",
    "inception_score": "Inception Score",
}
_EXPLAINED = {
    "memorised": "share of generated images that are closer to a training crop than 99 % of the held-out crops are, "
    "by EfficientNet-Lite0 features.",
    "memorised_pixels": "the same by grey levels at 32 × 32 pixels, the training crops turned, mirrored and shifted.",
    "nearest_train": "median cosine distance to the nearest training crop, to be read beside the floor: well below "
    "it is copying, well above it is unlike the real parts.",
    "class_alignment": "share of images that a linear probe, fitted to the training crops, recognises as the class "
    "that was asked for; the floor is its accuracy on held-out crops. It can rise while images get worse.",
    "clip_score": "100 × cosine of CLIP's embeddings of image and prompt, mean over the images.",
    "is_lite0": "Inception Score's formula on EfficientNet-Lite0's ImageNet classes. It never looks at real images "
    "and grows with their number: no number to choose by.",
    "inception_score": "on FID's Inception. It never looks at real images and grows with their number.",
}


def label(metric: str) -> str:
    """A metric's name with the unit that `cell` writes it in."""
    if is_kernel(metric):
        return f"{metric} × 10³"
    return _LABELS.get(metric, metric)


def explained(metric: str) -> str:
    """What a metric is, in a sentence or three."""
    if metric in _EXPLAINED:
        return _EXPLAINED[metric]
    for extractor in Names.EXTRACTORS:
        names, features = Names(extractor), _NETWORKS[extractor]
        meanings = {
            names.kernel: f"kernel distance (unbiased MMD², cubic kernel) on {features}. Lower is closer to the "
            "held-out crops; 0 and below is as close as can be measured. It does not depend on the number of images.",
            names.subsets: f"the same as a mean over random subsets, of all classes together, on {features}.",
            names.frechet: f"Fréchet distance on {features}. Biased upwards at few images, so compare it with the "
            "floor only where the numbers of images agree; it has no valid interval.",
            names.diversity: f"mean cosine distance between two images of a class on {features}; far below the floor "
            "is mode collapse.",
            names.clusters: "the same between images with the same nearest training crop; near 0 they are its copies.",
            **dict(
                zip(
                    names.manifold,
                    (
                        "share of generated images within the real crops' neighbourhoods.",
                        "share of held-out crops within the generated images' neighbourhoods.",
                        "in how many real neighbourhoods a generated image lies, relative to their size.",
                        "share of held-out crops that have a generated image in their neighbourhood.",
                    ),
                )
            ),
        }
        if metric in meanings:
            return meanings[metric]
    return ""


def cell(metric: str, estimate: Mapping[str, Any] | None) -> str:
    """A value with its interval: kernel distances in thousandths, shares in per cent."""
    if estimate is None:
        return "–"
    share = metric.startswith(_SHARES)
    factor, digits = (1e3, 1) if is_kernel(metric) else (100, 0) if share else (1, _digits(metric))
    unit = " %" if share else ""

    def shown(value: float) -> str:
        text = f"{value * factor:.{digits}f}"
        return text.replace("-", "−") if float(text) else text.lstrip("-")

    if estimate["low"] is None:
        return shown(estimate["value"]) + unit
    return f"{shown(estimate['value'])}{unit} [{shown(estimate['low'])}, {shown(estimate['high'])}]"


def _digits(metric: str) -> int:
    if metric.startswith(("fd_", "fid")):
        return 1
    return 3 if metric.startswith(("nearest", "diversity")) else 2
