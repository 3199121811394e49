"""Held-out crops that look almost the same as a training crop, although from another image.

One part photographed several times is several source images; where they fall on both sides, metrics
read too well. This finds the signs: it compares small grey versions by correlation. Not covered: the
same defect turned, mirrored or seen from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.crop.cutting import Made

# The correlation from which two are taken for the same scene.
# Above it lie 39 % of the held-out magnetic-tile crops, whose blowholes were photographed up to six
# times, and 1 % of DeepPCB's, which show different places (straight copper edges look alike).
_SAME = 0.99


@dataclass(frozen=True)
class LookAlike:
    """A reference crop and the training crop of its class that it resembles most."""

    reference: Made
    train: Made
    correlation: float


def find_lookalikes(made: Sequence[Made]) -> list[LookAlike]:
    """Every reference crop with a training twin, most alike first."""
    found: list[LookAlike] = []
    for name in sorted({m.crop.defect for m in made}):
        train = [m for m in made if m.crop.defect == name and m.planned.split == "train"]
        vectors = np.stack([_vector(m.small) for m in train])
        for m in made:
            if m.crop.defect == name and m.planned.split == "reference":
                alike = vectors @ _vector(m.small)
                if (best := int(alike.argmax())) >= 0 and alike[best] >= _SAME:
                    found.append(LookAlike(m, train[best], float(alike[best])))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.reference.planned.order))


def _vector(grey: np.ndarray) -> np.ndarray:
    """Grey levels with mean zero and length one; all zero for a crop of one colour."""
    small = grey.astype(np.float32).ravel()
    centred = small - small.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-6)
