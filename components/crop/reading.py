"""Everything that is annotated in a folder, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.crop.annotations import Annotated, AnnotatedImage, Format, Problem
from components.crop.config import CropConfig, FormatName
from components.crop.formats import recognise
from components.crop.images import Unreadable, picture
from components.dataset import list_folder
from components.errors import UserError
from components.parallel import cores, parallel
from components.progress import Progress

_LISTED = 20
_JOIN: int = CropConfig.model_fields["join"].default


class Refused(UserError):
    """Data with mistakes in it: `found` are all of them, the message names the first ones."""

    def __init__(self, found: Sequence[Problem]) -> None:
        lines = [f"  - {problem}" for problem in found[:_LISTED]]
        if len(found) > _LISTED:
            lines.append(f"  - and {len(found) - _LISTED} more")
        super().__init__(
            f"{len(found)} problems in the data; repair them, or leave them out with crop.on_error: skip\n"
            + "\n".join(lines)
        )
        self.found = list(found)


def refuse(problems: Sequence[Problem]) -> None:
    """Stop over wrong data.

    Raises:
        Refused: when there is any problem.
    """
    if problems:
        raise Refused(problems)


@dataclass(frozen=True)
class Data:
    """A folder's annotations."""

    format: str  #: name of their format
    summary: str  #: one line: what was found
    images: list[AnnotatedImage]  #: those that can be read
    problems: list[Problem]  #: what is wrong with the others, and with annotations; sorted


def read_folder(form: FormatName, name: str, root: Path, join: int = _JOIN) -> Data:
    """Read the annotations in the folder `root`; pixels of photographs are not looked at.

    Args:
        form: the annotation format, or ``auto``.
        name: the data set's name, for classes that are named by a folder.
        join: pixels between pieces of a mask that are one defect.

    Raises:
        UserError: where no format, or several, are recognised.
    """
    read, found = recognise(form, name, root, [file.path for file in list_folder(root, "dataset")])
    images, problems = _annotations(read, name, root, found.images, join)
    return Data(read.name, found.summary, images, sorted([*found.problems, *problems]))


def _annotations(
    form: Format, dataset: str, root: Path, items: Sequence[Annotated], join: int
) -> tuple[list[AnnotatedImage], list[Problem]]:
    def work(item: Annotated) -> AnnotatedImage | Problem:
        try:
            return form.read(dataset, root, item, join)
        except Unreadable as error:
            return Problem(item.image, str(error))

    results = parallel(work, items, cores(), Progress("annotations", len(items), unit="image"))
    images = [result for result in results if isinstance(result, AnnotatedImage)]
    problems = [result for result in results if isinstance(result, Problem)]
    return images, problems + [p for image in images for p in image.problems]


def undecodable(root: Path, sources: Sequence[str]) -> list[Problem]:
    """The images, paths below `root`, whose pixels cannot be read."""

    def work(source: str) -> Problem | None:
        try:
            with picture(root / source):
                return None
        except Unreadable as error:
            return Problem(source, str(error))

    progress = Progress("checking the other images", len(sources), unit="image")
    return [p for p in parallel(work, sources, cores(), progress) if p is not None]
