"""What the crop step would make of a data set, without cutting anything.

For the plan that is shown before a run: the user's mistakes in the data and in the settings come to
light in seconds instead of after the first step.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.crop.config import CropConfig
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


def survey(config: CropConfig, dataset: str) -> Survey:
    """Read the annotations in `dataset`, a local folder or archive, and count the crops they give.

    Raises:
        UserError: as the crop step does for annotations; pixels are not looked at.
    """
    name = name_of(dataset)
    with local_copy(dataset, "dataset") as root:
        form, found = recognise(config.format, name, root, [file.path for file in list_folder(root, "dataset")])
        images, problems = read_annotations(form, config, name, root, found.images, cores())
    problems = sorted([*found.problems, *problems])
    if config.on_error == "fail":
        refuse(problems)
    return Survey(form.name, len(images), count(plan_crops(config, images).crops), len(problems))
