"""The real crops as evaluate needs them: checked, by class, read a few at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components import decoding
from components.artifacts import SPLITS, CheckpointIndex, CropSet, Split, read_crops, read_json
from components.errors import UserError
from components.evaluate.config import too_few
from components.storage import digest_of, sha256_file

#: Crops that are in memory at once, of each thread that reads.
READ_AT_ONCE = 32


@dataclass(frozen=True)
class RealCrops:
    """Paths of the crops by split and class, in the order of the metadata."""

    folder: Path
    resolution: int
    classes: list[str]
    paths: dict[Split, dict[str, list[Path]]]
    origin: dict[str, str]  #: what `Metrics.dataset` says of the crop set
    settings: dict[str, Any] = field(default_factory=dict)  #: the crop settings used


def load(folder: Path, index: CheckpointIndex) -> RealCrops:
    """The crops in `folder`, held to be those that the checkpoints of `index` were trained with.

    Raises:
        UserError: for other crops, for source images on both sides, and for each class with too few.
    """
    crop_set = read_json(folder / "crops.json", CropSet)
    if crop_set.digest != index.crops_digest:
        raise UserError(
            f"{folder}: these are not the crops that the checkpoints were trained with (digest "
            f"{crop_set.digest[:12]}, trained with {index.crops_digest[:12]}); run train on them first, or "
            "a training image may pass for a held-out one"
        )
    listed = {split: read_crops(folder, split) for split in SPLITS}
    both = {c.source for c in listed["train"]} & {c.source for c in listed["reference"]}
    if both:
        raise UserError(
            f"{folder}: {len(both)} source images are in train and in reference, {min(both)} among them; "
            "run crop again, so that nothing is measured against what was trained on"
        )
    classes = sorted(index.prompts)
    paths: dict[Split, dict[str, list[Path]]] = {
        split: {
            name: [folder / split / crop.file_name for crop in listed[split] if crop.defect == name] for name in classes
        }
        for split in SPLITS
    }
    problems = too_few({name: {split: len(paths[split][name]) for split in SPLITS} for name in classes})
    if problems:
        raise UserError(*problems)
    origin = {
        "dataset": crop_set.dataset,
        "dataset_revision": crop_set.dataset_revision,
        "dataset_version": crop_set.dataset_version,
        "asked_revision": crop_set.asked_revision,
        "crop_settings": digest_of(crop_set.settings),
    }
    return RealCrops(folder, crop_set.resolution, classes, paths, origin, crop_set.settings)


def read(paths: Sequence[Path], side: int) -> np.ndarray:
    """The images at `paths` as uint8 ``[n, side, side, 3]``.

    Raises:
        UserError: when one cannot be read or has another size.
    """
    images = np.empty((len(paths), side, side, 3), np.uint8)
    for i, path in enumerate(paths):
        pixels = np.asarray(decoding.required(path, "RGB", "run crop again"))
        if pixels.shape != (side, side, 3):
            raise UserError(
                f"{path}: {pixels.shape[1]} × {pixels.shape[0]} pixels, expected {side} × {side}; run crop again"
            )
        images[i] = pixels
    return images


def digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file.

    Raises:
        UserError: when one cannot be read.
    """
    found = []
    for path in paths:
        try:
            found.append(sha256_file(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error}); run crop again") from None
    return found


def batches(paths: Sequence[Path], side: int) -> Iterator[np.ndarray]:
    """The images at `paths` as `read` gives them, a bounded number at a time."""
    for start in range(0, len(paths), READ_AT_ONCE):
        yield read(paths[start : start + READ_AT_ONCE], side)


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """Class → a folder name for it that every file system takes, each another."""
    names: dict[str, str] = {}
    for number, name in enumerate(classes):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
        taken = {used.lower() for used in names.values()}
        names[name] = plain if plain and plain.lower() not in taken else f"{plain or 'class'}-{number}"
    return names
