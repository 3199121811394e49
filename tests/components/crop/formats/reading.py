"""Reading a data set as the step does, up to its annotations."""

from __future__ import annotations

from pathlib import Path

from components.crop.annotations import AnnotatedImage
from components.crop.config import CropConfig, FormatName
from components.crop.formats import recognise
from components.crop.step import read_annotations
from components.dataset import list_folder


def read(root: Path, setting: FormatName = "auto", join: int = 0) -> tuple[str, list[AnnotatedImage], list[str]]:
    """Format, images and problems of a folder."""
    files = [file.path for file in list_folder(root, "dataset")]
    form, found = recognise(setting, root.name, root, files)
    images, problems = read_annotations(form, CropConfig(join=join), root.name, root, found.images, 2)
    return form.name, images, [str(p) for p in sorted([*found.problems, *problems])]
