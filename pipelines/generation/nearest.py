"""How near each new image is to the training crop nearest to it: copies are no new images.

Distances and yardstick are evaluate's: cosine distance of EfficientNet-Lite0 features, to every training crop of the
class in four quarter turns; *nearer than unseen real crops* is below the 1st percentile of the held-out crops' own
distances (Meehan, Chaudhuri & Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.artifacts import Crop, CropSet, Split, read_crops, read_json
from components.documents import parse_json
from components.errors import UserError
from components.progress import Progress
from pipelines.generation.plan import AGAIN, Picture

_TURNS = 4


@dataclass(frozen=True)
class Nearness:
    """One image and the training crop nearest to it."""

    crop: str  #: the crop's file, relative to the crops folder
    distance: float  #: cosine distance, 0 to 2
    nearer_than_real: bool  #: than 99 % of the held-out real crops are to theirs


def crops_of(digest: str | None, workdir: Path) -> Path | None:
    """The crops with this digest that a run in `workdir` left, the newest; None where there are none."""
    for path in sorted((workdir / ".local" / "artifacts").glob("*/crop/crops/crops.json"), reverse=True):
        try:
            found = parse_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        if digest is not None and isinstance(found, dict) and found.get("digest") == digest:
            return path.parent
    return None


def check(folder: Path) -> None:
    """Refuse a folder that holds no crops.

    Raises:
        UserError: when it is not what the crop step writes.
    """
    read_json(folder / "crops.json", CropSet)
    if not read_crops(folder, "train"):
        raise UserError(f"--crops {folder}: no training crops in it; give the crop step's output")


def measure(pictures: Sequence[Picture], out: Path, folder: Path) -> dict[str, Nearness]:
    """File name → nearness, for all of `pictures`. A label that is a class is held against its own crops, another
    prompt against all of them."""
    from components.extractor import Lite0
    from components.nearest import nearest

    side = read_json(folder / "crops.json", CropSet).resolution
    crops: dict[Split, list[Crop]] = {split: read_crops(folder, split) for split in ("train", "reference")}
    labels = list(dict.fromkeys(picture.label for picture in pictures))
    chosen = {label: {split: _of(crops[split], label) for split in crops} for label in labels}
    count = sum(_TURNS * len(c["train"]) + len(c["reference"]) for c in chosen.values()) + len(pictures)
    progress, extractor, done = Progress("nearest training crops", count, "image"), Lite0("cpu"), 0

    def features(paths: Sequence[Path], turn: int = 0) -> np.ndarray:
        nonlocal done
        rows = []
        for start in range(0, len(paths), 32):
            images = np.stack([_read(path, side) for path in paths[start : start + 32]])
            rows.append(extractor.features(np.rot90(images, turn, (1, 2))))
            done += len(images)
            progress.update(done)
        return np.concatenate(rows) if rows else np.empty((0, extractor.width))

    found: dict[str, Nearness] = {}
    for label in labels:
        train, held_out = chosen[label]["train"], chosen[label]["reference"]
        mine = [picture for picture in pictures if picture.label == label]
        views = np.concatenate(
            [features([folder / "train" / crop.file_name for crop in train], turn) for turn in range(_TURNS)]
        )
        real = nearest(features([folder / "reference" / crop.file_name for crop in held_out]), views)[0]
        distance, view = nearest(features([out / picture.file_name for picture in mine]), views)
        limit = np.quantile(real, 0.01) if len(real) else -np.inf
        for picture, d, v in zip(mine, distance, view):
            crop = f"train/{train[int(v) % len(train)].file_name}"
            found[picture.file_name] = Nearness(crop, float(d), bool(d < limit))
    return found


def _of(crops: Sequence[Crop], label: str) -> list[Crop]:
    return [crop for crop in crops if crop.defect == label] or list(crops)


def _read(path: Path, side: int) -> np.ndarray:
    """Pixels at the crops' size: distances depend on it."""
    from PIL import Image

    from components.decoding import required

    image = required(path, "RGB", AGAIN)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)
