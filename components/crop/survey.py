"""What the crop step would make of a data set, without cutting anything.

`survey` is for the plan that is shown before a run: the user's mistakes in the data and in the settings come to
light in seconds instead of after the first step. `census` is for the record of a data set that is pushed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.crop.config import CropConfig, FormatName
from components.crop.plan import count, plan_crops
from components.crop.reading import read_folder, refuse
from components.dataset import local_copy, name_of


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
        data = read_folder(config.format, name_of(dataset), opened.root, config.join)
        if config.on_error == "fail":
            refuse(data.problems)
        planned = plan_crops(config, data.images)
    return Survey(data.format, len(data.images), count(planned.crops), len(data.problems))
