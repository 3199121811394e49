"""The real crops and their features, computed once and shared by all checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.artifacts import Split
from components.evaluate.crops import RealCrops, batches, read
from components.evaluate.measure import RealFeatures
from components.extractor import Lite0
from components.progress import Progress


@dataclass(frozen=True)
class Real:
    """Real crops with their features and the extractor that made them."""

    crops: RealCrops
    features: RealFeatures
    extractor: Lite0

    @classmethod
    def of(cls, crops: RealCrops, extractor: Lite0, augment: str | None) -> Real:
        """Read all crops once; training crops also in quarter turns where `augment` turned them.

        Mirror images need no view of their own: the network hardly tells them apart (cosine distance 0.02
        to 0.03 on board defects, where real crops are 0.1 to 0.2 apart), unlike quarter turns (0.1 to 0.3).
        """
        turns = range(4 if augment == "dihedral" else 1)
        train, reference = _listed(crops, "train"), _listed(crops, "reference")
        progress = Progress("features of real crops", len(turns) * len(train) + len(reference), "image")
        done = 0

        def seen(count: int) -> None:
            nonlocal done
            done += count
            progress.update(done)

        views = [_features(train, turn, crops.resolution, extractor, seen) for turn in turns]
        held_out = _features(reference, 0, crops.resolution, extractor, seen)
        features = RealFeatures(
            _by_class(views[0], "train", crops), _by_class(held_out, "reference", crops), np.concatenate(views)
        )
        return cls(crops, features, extractor)

    def view(self, row: int) -> np.ndarray:
        """The image behind a row of `RealFeatures.views`, uint8 ``[side, side, 3]``."""
        train = _listed(self.crops, "train")
        turn, number = divmod(row, len(train))
        return np.rot90(read([train[number]], self.crops.resolution)[0], turn)


def _listed(crops: RealCrops, split: Split) -> list[Path]:
    return [path for name in crops.classes for path in crops.paths[split][name]]


def _by_class(rows: np.ndarray, split: Split, crops: RealCrops) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(crops.paths[split][name]) for name in crops.classes])[:-1]
    return dict(zip(crops.classes, np.split(rows, ends)))


def _features(paths: Sequence[Path], turn: int, side: int, extractor: Lite0, seen: Callable[[int], None]) -> np.ndarray:
    parts = [extractor.features(np.rot90(images, turn, (1, 2)), seen) for images in batches(paths, side)]
    return np.concatenate(parts)
