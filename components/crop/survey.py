"""What the crop step would make of a data set, without cutting anything.

`survey` is for the plan that is shown before a run: the user's mistakes in the data and in the settings come to
light in seconds instead of after the first step. `census` is for the record of a data set that is pushed.
`inventory` is for snapshot, which holds the crops that there would be against those that a model was trained on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.crop.config import CropConfig, FormatName
from components.crop.plan import count, plan_crops
from components.crop.reading import Data, read_folder, refuse
from components.dataset import local_copy, name_of
from components.parallel import cores, parallel
from components.progress import Progress
from components.storage import digest_of, sha256_file


@dataclass(frozen=True)
class Survey:
    """Images and crops that there would be."""

    format: str  #: name of the annotation format
    images: int  #: annotated images, defect-free ones included
    counts: dict[str, dict[str, int]]  #: class → split → crops
    skipped: int  #: problems in the data that ``on_error: skip`` passes over


@dataclass(frozen=True)
class Census:
    """What is annotated in a data set, whatever crops are made of it."""

    format: str  #: name of the annotation format
    images: int  #: annotated images
    good: int  #: those of them without a defect
    defects: dict[str, int]  #: class → annotated defects, sorted by class
    problems: int  #: annotations and images that cannot be used


@dataclass(frozen=True)
class Inventory:
    """Which crops there would be, and of what."""

    counts: dict[str, dict[str, int]]  #: class → split → crops
    #: which crop (split, image, class and place) → what it shows (pixels of the image, size of the defect); digests of
    #: 48 bits: two of 100,000 crops are taken for one another once in 50,000 inventories
    crops: dict[str, str]


def census(form: FormatName, name: str, root: Path) -> Census:
    """Count what is annotated in the folder `root`; pixels of photographs are not looked at.

    Args:
        form: the annotation format, or ``auto``.
        name: the data set's name, for classes that are named by a folder.

    Raises:
        UserError: where no format, or several, are recognised.
    """
    data = read_folder(form, name, root)
    defects = Counter(defect.defect for image in data.images for defect in image.defects)
    good = sum(not image.defects for image in data.images)
    return Census(data.format, len(data.images), good, dict(sorted(defects.items())), len(data.problems))


def survey(config: CropConfig, dataset: str) -> Survey:
    """Read the annotations in `dataset`, a local folder or archive, and count the crops they give.

    Raises:
        UserError: as the crop step does for annotations; pixels are not looked at.
    """
    with local_copy(dataset, "dataset") as opened:
        data = _sound(config, name_of(dataset), opened.root)
        crops = plan_crops(config, data.images).crops
    return Survey(data.format, len(data.images), count(crops), len(data.problems))


def inventory(config: CropConfig, dataset: str, revision: str) -> Inventory:
    """Read the annotations in `dataset`, wherever it lies, and list the crops they give.

    Args:
        revision: what is read of a data set with versions.

    Raises:
        UserError: as the crop step does for annotations; pixels are not looked at. A class that is new and has crops
            on one side only is none: more of it may be on its way.
        Unavailable: the object store does not answer.
    """
    with local_copy(dataset, "dataset", revision=revision) as opened:
        root = opened.root
        crops = plan_crops(config, _sound(config, name_of(dataset), root).images, trainable=False).crops
        sources = sorted({crop.source for crop in crops})
        progress = Progress("images of crops read", len(sources), unit="image")
        digests = dict(zip(sources, parallel(lambda s: sha256_file(root / s), sources, cores(), progress)))
    shown = {
        _short(crop.split, crop.file): _short(digests[crop.source], crop.window, crop.defect.area) for crop in crops
    }
    return Inventory(count(crops), shown)


def _sound(config: CropConfig, name: str, root: Path) -> Data:
    """The annotations below `root`, refused where they hold mistakes that may not be passed over."""
    data = read_folder(config.format, name, root, config.join)
    if config.on_error == "fail":
        refuse(data.problems)
    return data


def _short(*parts: object) -> str:
    return digest_of(parts)[:12]
