"""The annotation formats, one module each, and how the right one is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from components.crop.annotations import Format, Found
from components.crop.config import FormatName
from components.crop.formats.boxes import Boxes
from components.crop.formats.coco import Coco
from components.crop.formats.deeppcb import DeepPCB
from components.crop.formats.labelme import LabelMe
from components.crop.formats.masks import Masks
from components.crop.formats.mvtec import MVTec
from components.crop.formats.voc import Voc
from components.crop.formats.yolo import Yolo
from components.errors import UserError

FORMATS: dict[str, Format] = {
    f.name: f for f in (Boxes(), Coco(), DeepPCB(), LabelMe(), Masks(), MVTec(), Voc(), Yolo())
}


def recognise(setting: FormatName, dataset: str, root: Path, files: Sequence[str]) -> tuple[Format, Found]:
    """The format of a data set, and its annotated images.

    Args:
        setting: the name of a format, or ``auto``: the one that has images among `files`. A table of boxes, which
            tools write beside what they drew, gives way to another format that annotates all of its defective images.
        dataset: the data set's name.
        root: folder that `files`, relative paths, are in.

    Raises:
        UserError: when nothing is recognised, with examples of what would be; when several are; when what there is
            of several is all damaged.
    """
    tried = FORMATS if setting == "auto" else {str(setting): FORMATS[setting]}
    found = {name: f.find(dataset, root, files) for name, f in tried.items()}
    matched = [name for name in found if found[name].images]
    if len(matched) == 2 and "csv" in matched:
        other = next(name for name in matched if name != "csv")
        # An image without annotations may be good to the other format for want of a mask alone.
        annotated = {item.image for item in found[other].images if item.annotations}
        if all(item.image in annotated for item in found["csv"].images if item.content):
            matched = [other]
    damaged = [name for name in found if found[name].problems]
    if not matched and len(damaged) > 1:
        raise UserError(
            f"dataset {dataset}: no annotation that can be read; repair it, or set crop.format to one of "
            f"{', '.join(damaged)} for all that is wrong:\n"
            + "\n".join(f"  - as {name}: {found[name].problems[0]}" for name in damaged)
        )
    matched = matched or damaged
    if len(matched) > 1:
        told = "; ".join(f"{name}: {found[name].summary}" for name in matched)
        raise UserError(
            f"dataset {dataset}: several annotation formats ({told}); set crop.format to one of "
            f"{', '.join(matched)}, or give a folder that holds only one"
        )
    if not matched:
        raise UserError(_nothing_found(dataset, files, tried))
    return FORMATS[matched[0]], found[matched[0]]


def _nothing_found(dataset: str, files: Sequence[str], tried: dict[str, Format]) -> str:
    kinds = Counter(PurePosixPath(f).suffix.lower() or "no extension" for f in files)
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    examples = "\n".join(
        f"    {name}:\n" + "\n".join(f"        {line}" for line in f.layout.splitlines()) for name, f in tried.items()
    )
    return (
        f"dataset {dataset}: no annotated images among its {len(files)} files ({there}); "
        f"arrange them as one of\n{examples}"
    )
