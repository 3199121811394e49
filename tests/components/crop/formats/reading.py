"""Reading a data set as the step does, up to its annotations."""

from __future__ import annotations

from pathlib import Path

from components.crop.annotations import AnnotatedImage
from components.crop.config import FormatName
from components.crop.reading import read_folder


def read(root: Path, setting: FormatName = "auto", join: int = 0) -> tuple[str, list[AnnotatedImage], list[str]]:
    """Format, images and problems of a folder."""
    data = read_folder(setting, root.name, root, join)
    return data.format, data.images, [str(p) for p in data.problems]
