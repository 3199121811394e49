"""Which crops are made, before any pixel is cut: classes, split, limits, windows, file names.

Every choice is a hash of the seed and of what is chosen, so that it does not change when other
images come or go. Pure functions; not covered: reading and writing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from components.artifacts import SPLITS, Split
from components.crop.annotations import AnnotatedImage, Defect
from components.crop.areas import fraction, inside, joined, normal_windows, windows_for
from components.crop.config import CropConfig
from components.crop.window import Box
from components.errors import UserError


@dataclass(frozen=True)
class Area:
    """One crop to be made, of an area without a defect."""

    source: str  #: its image, relative to the data set
    split: Split
    window: Box
    file: str  #: ``<name>.png``, in a folder of its class where it has one; below ``images`` and ``masks``


@dataclass(frozen=True)
class Planned(Area):
    """One crop to be made, around a defect."""

    defect: Defect

    @property
    def order(self) -> tuple[str, str, Box, Box]:
        """What crops are sorted by: class, image, place."""
        return self.defect.defect, self.source, self.defect.box, self.window

    @property
    def box(self) -> Box:
        """The part of the defect's box that the window shows."""
        return inside(self.defect.box, self.window)


@dataclass(frozen=True)
class Plan:
    """All crops to be made, sorted, and what was left out on purpose."""

    crops: list[Planned]
    left_out: dict[str, Counter[str]] = field(default_factory=dict)  #: class → reason → crops
    normal: list[Area] = field(default_factory=list)  #: defect-free, sorted by image and place

    @property
    def classes(self) -> list[str]:
        return sorted({crop.defect.defect for crop in self.crops})


def plan_crops(config: CropConfig, images: Sequence[AnnotatedImage], trainable: bool = True) -> Plan:
    """Decide on the crops of `images`.

    Args:
        trainable: refuse a class without crops on one side.

    Raises:
        UserError: no defects, classes that do not exist, a class without crops on one side.
    """
    classes = _chosen_classes(config, images)
    folders = folder_names(classes)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    candidates: dict[tuple[str, Split], list[tuple[float, Planned]]] = defaultdict(list)
    for image in images:
        split = split_of(image.path, config)
        places: set[tuple[str, ...]] = set()
        for defect in _used(config, image, folders, left_out):
            name = defect.defect
            windows = list(windows_for(config, defect, image.size))
            for window in windows:
                place = defect.box if len(windows) == 1 else window
                identity = (image.path, name, *map(str, place))
                if identity in places:
                    left_out[name]["the same tile as another one's"] += 1
                    continue
                places.add(identity)
                file = f"{folders[name]}/{_file_name(image.path, identity)}"
                rank = fraction(config.split_seed, "limit", *identity)
                candidates[name, split].append((rank, Planned(image.path, split, window, file, defect)))
    kept: list[Planned] = []
    for (name, split), ranked in candidates.items():
        limit = config.max_train_per_class if split == "train" else config.max_reference_per_class
        ranked.sort(key=lambda pair: pair[0])
        kept += [planned for _, planned in ranked[:limit]]
        if limit is not None and len(ranked) > limit:
            left_out[name][f"over the limit of {limit} {split} crops"] += len(ranked) - limit
    kept.sort(key=lambda p: p.order)
    if trainable:
        require_both_splits(config, classes, count(kept))
    return Plan(kept, dict(left_out), _normal(config, images))


def _used(
    config: CropConfig,
    image: AnnotatedImage,
    classes: Container[str],
    left_out: dict[str, Counter[str]],
) -> list[Defect]:
    """The defects of `image` that are used; `left_out` counts the others."""
    used: dict[tuple[str, Box], Defect] = {}
    for defect in image.defects:
        if defect.defect not in classes:
            left_out[defect.defect]["not in the setting classes"] += 1
        elif (defect.defect, defect.box) in used:
            left_out[defect.defect]["annotated twice"] += 1
        else:
            used[defect.defect, defect.box] = defect
    large = []
    for defect in joined(list(used.values()), config.join) if config.join_boxes else used.values():
        if defect.area < config.min_area:
            left_out[defect.defect][f"smaller than {config.min_area} pixels"] += 1
        else:
            large.append(defect)
    return large


def _normal(config: CropConfig, images: Sequence[AnnotatedImage]) -> list[Area]:
    if not config.normal_per_image:
        return []
    return [
        Area(image.path, split_of(image.path, config), window, _file_name(image.path, (image.path, *map(str, window))))
        for image in sorted(images, key=lambda image: image.path)
        for window in sorted(normal_windows(config, image))
    ]


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
