"""DeepPCB's text annotations (Tang et al. 2019, "Online PCB Defect Detector On A New PCB Defect Dataset").

One ``x1 y1 x2 y2 kind`` a line, in pixels, kinds 1 to 6. Images ``*_temp.jpg`` are the defect-free
templates of the same places and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from components.crop.annotations import Annotated, AnnotatedImage, Defect, Format, Found, Problem
from components.crop.formats.reading import LARGEST_LINES, Wrong, noted, read_bytes
from components.crop.images import displayed_size, is_image

KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}

#: More digits are of no place in an image.
_WHOLE = re.compile(r"[+-]?\d{1,12}")


class DeepPCB(Format):
    name = "deeppcb"
    layout = """\
group00041/00041/00041005_test.jpg      an image
group00041/00041_not/00041005.txt       its defects: x1 y1 x2 y2 kind, one a line"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = {_annotation_of(f): f for f in files if _is_test_image(f)}
        texts = {f for f in files if PurePosixPath(f).match("*_not/*.txt")}
        if not texts and not images:
            return Found()
        found = [Annotated(image, (text,)) for text, image in images.items() if text in texts]
        problems = [
            Problem(image, f"no annotation; it should be {text} (an empty file for a good image)")
            for text, image in images.items()
            if text not in texts
        ] + [
            Problem(text, f"annotates an image that is not there; it should be {_image_of(text)}")
            for text in texts - set(images)
        ]
        summary = f"{len(found)} images *_test with a text file of boxes each"
        return Found(sorted(found), sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        size = displayed_size(root / item.image)
        defects: list[Defect] = []
        problems: list[Problem] = []
        text = item.annotations[0]
        try:
            lines = read_bytes(root / text, LARGEST_LINES).decode("utf-8-sig", errors="replace").splitlines()
        except Wrong as error:
            return AnnotatedImage(item.image, size, (), (Problem(text, str(error)),))
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                defects.append(_defect(line, size))
            except ValueError as error:
                if not noted(problems, Problem(f"{text}:{number}", str(error))):
                    break
        return AnnotatedImage(item.image, size, tuple(defects), tuple(problems))


def _defect(line: str, size: tuple[int, int]) -> Defect:
    parts = re.split(r"[,\s]+", line.strip())
    if len(parts) != 5 or not all(map(_WHOLE.fullmatch, parts)):
        raise ValueError(f"{line.strip()[:60]!r} is not `x1 y1 x2 y2 kind`, five whole numbers")
    x0, y0, x1, y1, kind = map(int, parts)
    if kind not in KINDS:
        known = ", ".join(f"{number} {name}" for number, name in KINDS.items())
        raise ValueError(f"kind {kind} is unknown; known: {known}")
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"box {x0} {y0} {x1} {y1} is empty or its corners are swapped; x1 < x2 and y1 < y2")
    if x0 < 0 or y0 < 0 or x1 > size[0] or y1 > size[1]:
        raise ValueError(f"box {x0} {y0} {x1} {y1} leaves the image, which is {size[0]} × {size[1]} pixels")
    return Defect(KINDS[kind], (x0, y0, x1, y1), (x1 - x0) * (y1 - y0))


def _is_test_image(path: str) -> bool:
    return is_image(path) and PurePosixPath(path).stem.endswith("_test") and "/" in path


def _annotation_of(image: str) -> str:
    path = PurePosixPath(image)
    return str(path.parent.parent / f"{path.parent.name}_not" / f"{path.stem.removesuffix('_test')}.txt")


def _image_of(text: str) -> str:
    path = PurePosixPath(text)
    return str(path.parent.parent / path.parent.name.removesuffix("_not") / f"{path.stem}_test.jpg")
