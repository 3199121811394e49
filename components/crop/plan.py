"""Which crops are made, before any pixel is cut: classes, split, limits, windows, file names.

Every choice is a hash of the seed and of what is chosen, so that it does not change when other
images come or go. Pure functions; not covered: reading and writing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from components.artifacts import SPLITS, Split
from components.crop.annotations import AnnotatedImage, Defect
from components.crop.config import CropConfig
from components.crop.window import Box, window_around
from components.errors import UserError


@dataclass(frozen=True)
class Planned:
    """One crop to be made."""

    source: str  #: its image, relative to the data set
    split: Split
    defect: Defect
    window: Box
    file: str  #: ``<class folder>/<name>.png``, below ``images`` and ``masks``

    @property
    def order(self) -> tuple[str, str, Box]:
        """What crops are sorted by: class, image, place."""
        return self.defect.defect, self.source, self.defect.box


@dataclass(frozen=True)
class Plan:
    """All crops to be made, sorted, and what was left out on purpose."""

    crops: list[Planned]
    left_out: dict[str, Counter[str]] = field(default_factory=dict)  #: class → reason → crops

    @property
    def classes(self) -> list[str]:
        return sorted({crop.defect.defect for crop in self.crops})


def plan_crops(config: CropConfig, images: Sequence[AnnotatedImage]) -> Plan:
    """Decide on the crops of `images`.

    Raises:
        UserError: no defects, classes that do not exist, a class without crops on one side.
    """
    classes = _chosen_classes(config, images)
    folders = folder_names(classes)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    candidates: dict[tuple[str, Split], list[tuple[float, Planned]]] = defaultdict(list)
    for image in images:
        split = split_of(image.path, config)
        seen: set[tuple[str, Box]] = set()
        for defect in image.defects:
            name = defect.defect
            if name not in folders:
                left_out[name]["not in the setting classes"] += 1
            elif defect.area < config.min_area:
                left_out[name][f"smaller than {config.min_area} pixels"] += 1
            elif (name, defect.box) in seen:
                left_out[name]["annotated twice"] += 1
            else:
                seen.add((name, defect.box))
                identity = (image.path, name, *map(str, defect.box))
                file = f"{folders[name]}/{_file_name(image.path, identity)}"
                window = window_around(defect.box, *image.size, config.resolution, config.context)
                rank = fraction(config.split_seed, "limit", *identity)
                candidates[name, split].append((rank, Planned(image.path, split, defect, window, file)))
    kept: list[Planned] = []
    for (name, split), ranked in candidates.items():
        limit = config.max_train_per_class if split == "train" else config.max_reference_per_class
        ranked.sort(key=lambda pair: pair[0])
        kept += [planned for _, planned in ranked[:limit]]
        if limit is not None and len(ranked) > limit:
            left_out[name][f"over the limit of {limit} {split} crops"] += len(ranked) - limit
    kept.sort(key=lambda p: p.order)
    require_both_splits(config, classes, count(kept))
    return Plan(kept, dict(left_out))


def _chosen_classes(config: CropConfig, images: Sequence[AnnotatedImage]) -> list[str]:
    known = sorted({defect.defect for image in images for defect in image.defects})
    if not known:
        raise UserError(
            f"dataset: no defect is annotated in its {len(images)} images; crops are cut around defects, so add "
            "images with defects"
        )
    problems = [
        f"crop.{setting}: no defect of class {name!r} in the data; known: {', '.join(known)}"
        for setting, names in (("classes", config.classes or ()), ("prompts", config.prompts))
        for name in names
        if name not in known
    ]
    if problems:
        raise UserError(*problems)
    return known if config.classes is None else sorted(set(config.classes))


def split_of(source: str, config: CropConfig) -> Split:
    """The side that an image and all its crops are on, whatever other images there are."""
    part = source
    if config.same_part and (match := re.search(config.same_part, source)):
        part = next((group for group in match.groups() if group is not None), match.group())
    return "reference" if fraction(config.split_seed, "split", part) < config.reference_fraction else "train"


def fraction(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and on `parts` alone."""
    digest = hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def count(crops: Iterable[Planned]) -> dict[str, dict[str, int]]:
    """Class → split → number of crops."""
    counts: dict[str, dict[str, int]] = {}
    for crop in crops:
        counts.setdefault(crop.defect.defect, dict.fromkeys(SPLITS, 0))[crop.split] += 1
    return counts


def require_both_splits(config: CropConfig, classes: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse a class that could not be trained, or could not be measured.

    Raises:
        UserError: naming each such class and its counts.
    """
    problems = []
    for name in classes:
        train, reference = (counts.get(name, {}).get(split, 0) for split in SPLITS)
        if not train or not reference:
            problems.append(
                f"class {name}: {train} training crops and {reference} reference crops, at least one of each is "
                "needed and all crops of one image are on one side; add images with it, leave it out with "
                f"crop.classes, or try another crop.split_seed (now {config.split_seed}) or "
                f"crop.reference_fraction (now {config.reference_fraction:g})"
            )
    if problems:
        raise UserError(*problems)


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """A folder name for every class that any file system takes; different classes, different names."""
    names: dict[str, str] = {}
    for name in classes:
        slug = _slug(name)
        if not slug or slug.lower() in {n.lower() for n in names.values()}:
            slug = f"{slug or 'class'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        names[name] = slug
    return names


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:64]


def _file_name(source: str, identity: tuple[str, ...]) -> str:
    # The digest tells apart images of one name in different folders and defects of one image.
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:10]
    return f"{_slug(PurePosixPath(source).stem) or 'image'}-{digest}.png"
