"""Crops that look almost the same although they come from different places.

One part photographed several times is several source images; where they fall on both sides of the split, metrics read
too well. This compares thumbnails by correlation, which brightness and contrast do not change. Not covered: the same
defect turned, mirrored or seen from elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.crop.cutting import Made
from components.crop.plan import Planned

# The correlation from which two are taken for the same scene.
# Above it lie 39 % of the held-out magnetic-tile crops, whose blowholes were photographed up to six
# times, and 1 % of DeepPCB's, which show different places (straight copper edges look alike).
SAME = 0.99

# Where more of a class's training crops would go, it is one scene, such as a part in a fixture, and not copies.
_MOST_DROPPED = 0.5

# Crops of each side that are compared at a time: memory does not grow with their number.
_BLOCK = 512


@dataclass(frozen=True)
class LookAlike:
    """Two crops of one class, by their most similar counterparts."""

    crop: Made[Planned]
    other: Made[Planned]
    correlation: float

    @property
    def identical(self) -> bool:
        """Whether all their pixels are the same."""
        return self.crop.pixels == self.other.pixels


def across_the_split(made: Sequence[Made[Planned]]) -> list[LookAlike]:
    """Held-out crops and training crops that look the same, most alike first.

    Every one that has a twin is in a pair with the most similar of the other side; `LookAlike.crop` is held out.
    """
    found: dict[tuple[str, str], LookAlike] = {}
    for of_class in _by_class(made):
        held_out = [m for m in of_class if m.planned.split == "reference"]
        train = [m for m in of_class if m.planned.split == "train"]
        for a, b, swapped in ((held_out, train, False), (train, held_out, True)):
            for one, other, correlation in _most_alike(a, b):
                pair = (other, one) if swapped else (one, other)
                found[pair[0].path, pair[1].path] = LookAlike(*pair, correlation)
    return sorted(found.values(), key=lambda p: (-p.correlation, p.crop.planned.order, p.other.planned.order))


def within_training(made: Sequence[Made[Planned]]) -> list[LookAlike]:
    """Training crops that look the same as an earlier one (`LookAlike.other`), most alike first."""
    found = []
    for of_class in _by_class(made):
        train = [m for m in of_class if m.planned.split == "train"]
        found += [LookAlike(*pair) for pair in _most_alike(train, train, earlier=True)]
    return sorted(found, key=lambda p: (-p.correlation, p.crop.planned.order))


def to_drop(twins: Sequence[LookAlike], counts: Mapping[str, Mapping[str, int]]) -> set[str]:
    """Paths of the training crops to leave out so that no held-out crop is trained on.

    `counts`: class → split → crops. None of a class that would lose more than half: its crops look alike because they
    show one scene.
    """
    by_class: dict[str, set[str]] = {}
    for twin in twins:
        by_class.setdefault(twin.other.crop.defect, set()).add(twin.other.path)
    return {
        path
        for name, paths in by_class.items()
        if len(paths) <= _MOST_DROPPED * counts[name]["train"]
        for path in paths
    }


def with_twins(twins: Sequence[LookAlike]) -> Counter[str]:
    """Class → held-out crops that look like a training crop."""
    return Counter(name for name, _ in {(twin.crop.crop.defect, twin.crop.path) for twin in twins})


def _by_class(made: Sequence[Made[Planned]]) -> Iterator[list[Made[Planned]]]:
    for name in sorted({m.crop.defect for m in made}):
        yield [m for m in made if m.crop.defect == name]


def _most_alike(
    a: Sequence[Made[Planned]], b: Sequence[Made[Planned]], earlier: bool = False
) -> Iterator[tuple[Made[Planned], Made[Planned], float]]:
    """For each of `a` the most similar of `b` (before it, where `earlier`), if it looks the same."""
    for start in range(0, len(a), _BLOCK):
        vectors = _vectors(a[start : start + _BLOCK])
        best, which = np.full(len(vectors), -1.0), np.zeros(len(vectors), int)
        for first in range(0, len(b), _BLOCK):
            alike = vectors @ _vectors(b[first : first + _BLOCK]).T
            if earlier:
                order = np.arange(first, first + alike.shape[1]) - np.arange(start, start + len(alike))[:, None]
                alike[order >= 0] = -1
            here, at = alike.max(axis=1), alike.argmax(axis=1)
            closer = here > best
            best[closer], which[closer] = here[closer], first + at[closer]
        for i in np.flatnonzero(best >= SAME):
            yield a[start + i], b[which[i]], float(best[i])


def _vectors(made: Sequence[Made[Planned]]) -> np.ndarray:
    """Thumbnails, float32 [crops, pixels], with mean zero and length one; all zero for a crop of one colour."""
    grey = np.stack([m.look.thumbnail.ravel() for m in made]).astype(np.float32)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-6)
