"""What the crop step would make of a data set, without cutting anything.

`survey` is for the plan that is shown before a run: the user's mistakes in the data and in the settings come to
light in seconds instead of after the first step. `census` is for the record of a data set that is pushed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.crop.config import CropConfig, FormatName
from components.crop.formats import recognise
from components.crop.plan import count, plan_crops
from components.crop.step import read_annotations, refuse
from components.dataset import list_folder, local_copy, name_of
from components.parallel import cores


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
    read, found = recognise(form, name, root, [file.path for file in list_folder(root, "dataset")])
    images, problems = read_annotations(read, CropConfig(), name, root, found.images, cores())
    defects = Counter(defect.defect for image in images for defect in image.defects)
    good = sum(not image.defects for image in images)
    return Census(read.name, len(images), good, dict(sorted(defects.items())), len(found.problems) + len(problems))


def survey(config: CropConfig, dataset: str) -> Survey:
    """Read the annotations in `dataset`, a local folder or archive, and count the crops they give.

    Raises:
        UserError: as the crop step does for annotations; pixels are not looked at.
    """
    name = name_of(dataset)
    with local_copy(dataset, "dataset") as opened:
        root = opened.root
        form, found = recognise(config.format, name, root, [file.path for file in list_folder(root, "dataset")])
        images, problems = read_annotations(form, config, name, root, found.images, cores())
    problems = sorted([*found.problems, *problems])
    if config.on_error == "fail":
        refuse(problems)
    return Survey(form.name, len(images), count(plan_crops(config, images).crops), len(problems))
