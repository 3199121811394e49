"""What the metrics are called. A name says the features: FID and KID are Inception's, ``kd_lite0`` is not KID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

#: Whether higher is better, for metrics that a checkpoint can be chosen by and that are no extractor's. The
#: distance to the nearest training image is none of them: small is copied, large is unlike anything real.
HIGHER_IS_BETTER = {
    "memorised": False,
    "memorised_pixels": False,
    "class_alignment": True,
    "clip_score": True,
    "is_lite0": True,
    "inception_score": True,
}


@dataclass(frozen=True)
class Names:
    """The names of what is measured on one extractor's features."""

    extractor: str
    EXTRACTORS: ClassVar = ("lite0", "inception", "dinov2", "clip")

    @property
    def kernel(self) -> str:
        return "kid" if self.extractor == "inception" else f"kd_{self.extractor}"

    @property
    def subsets(self) -> str:
        return f"{self.kernel}_subsets"

    @property
    def frechet(self) -> str:
        return "fid" if self.extractor == "inception" else f"fd_{self.extractor}"

    @property
    def manifold(self) -> tuple[str, str, str, str]:
        """Precision, recall, density, coverage."""
        e = self.extractor
        return f"precision_{e}", f"recall_{e}", f"density_{e}", f"coverage_{e}"

    @property
    def diversity(self) -> str:
        return f"diversity_{self.extractor}"

    @property
    def clusters(self) -> str:
        return f"diversity_in_clusters_{self.extractor}"

    @property
    def inception_score(self) -> str:
        return "inception_score" if self.extractor == "inception" else f"is_{self.extractor}"


def is_kernel(metric: str) -> bool:
    """Whether a metric is a kernel distance, customarily read in thousandths."""
    return metric.startswith(("kd_", "kid"))


def absent(networks: Mapping[str, str]) -> dict[str, str]:
    """Metric → why it is not measured, where a network is not there; `networks`: extractor → the reason."""
    found: dict[str, str] = {}
    for extractor, reason in networks.items():
        names = Names(extractor)
        found |= dict.fromkeys((names.kernel, names.frechet), reason)
        if extractor == "inception":
            found[names.inception_score] = reason
        if extractor == "clip":
            found["clip_score"] = reason
    return found
