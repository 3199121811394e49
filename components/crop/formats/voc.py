"""Pascal VOC's XML files of boxes (Everingham et al., "The PASCAL Visual Object Classes Challenge Development Kit").

Coordinates are whole pixels counted from 1, the last one included, as the development kit says: pixel 1 to 1 is one
pixel wide. Tools that count from 0 write boxes that come out a pixel larger to the left and the top, which a crop
with context does not show; their 0 is read as 1. ``difficult`` and ``truncated`` objects are used. Not covered:
segmentation images, parts, and CVAT's own XML.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from components.crop.annotations import Annotated, AnnotatedImage, Format, Found, Problem
from components.crop.formats.locating import Images
from components.crop.formats.reading import Wrong, class_name, head, other_size, parsed_number, read_xml
from components.crop.formats.shapes import Instance, Size, annotated_image, box_instance
from components.crop.images import displayed_size

_SIGN = re.compile(r"<annotation[\s>]")
_CVAT = re.compile(r"<annotations[\s>]")
_FILENAME = re.compile(r"<filename>([^<]+)</filename>")


class Voc(Format):
    name = "voc"
    layout = """\
Annotations/a.xml                       Pascal VOC: the boxes of one image
JPEGImages/a.jpg                        the image of the same stem, in any folder"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = Images(files)
        stems: dict[str, list[str]] = defaultdict(list)
        for path in images.paths:
            stems[PurePosixPath(path).stem].append(path)
        of: dict[str, list[str]] = defaultdict(list)
        problems: list[Problem] = []
        for path in (f for f in files if f.lower().endswith(".xml")):
            start = head(root / path)
            if _SIGN.search(start):
                try:
                    of[_image_of(path, start, images, stems)].append(path)
                except Wrong as error:
                    problems.append(Problem(path, str(error)))
            elif _CVAT.search(start):
                problems.append(Problem(path, "CVAT's own XML, which is not read; export the task as COCO 1.0"))
            elif PurePosixPath(path).stem in stems:
                problems.append(Problem(path, "no Pascal VOC annotation, or damaged; export it again or remove it"))
        for image, paths in list(of.items()):
            if len(paths) > 1:
                del of[image]
                problems.append(Problem(paths[0], f"{', '.join(paths[1:])} annotates the same image {image}; keep one"))
        items = sorted(Annotated(image, tuple(paths)) for image, paths in of.items())
        summary = f"{len(items)} images with an XML file each"
        if unused := len(images.paths) - len(items):
            summary += f"; {unused} images without one are not used"
        return Found(items, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        size = displayed_size(root / item.image)
        path = item.annotations[0]
        try:
            annotation = read_xml(root / path)
            _require_size(annotation, item.image, size)
        except Wrong as error:
            return AnnotatedImage(item.image, size, (), (Problem(path, str(error)),))
        objects = ((f"{path}:{thing.get('line')}", thing) for thing in annotation.findall("object"))
        return annotated_image(item.image, size, objects, lambda thing: _instance(thing, size))


def _image_of(path: str, start: str, images: Images, stems: dict[str, list[str]]) -> str:
    # By the stem, as the development kit does: <filename> is often what the image was called once.
    same = stems.get(PurePosixPath(path).stem, [])
    if len(same) == 1:
        return same[0]
    beside = [image for image in same if PurePosixPath(image).parent == PurePosixPath(path).parent]
    if len(beside) == 1:
        return beside[0]
    named = _FILENAME.search(start)
    return images.locate(named[1] if named else f"{PurePosixPath(path).stem}.jpg", path)


def _require_size(annotation: Element, image: str, size: Size) -> None:
    if annotation.tag != "annotation":
        raise Wrong(f"its outermost element is <{annotation.tag}> instead of <annotation>; export it again")
    if annotation.find("size") is None:
        raise Wrong("no <size>, so that boxes of another resolution would not be noticed; add it or export it again")
    said = int(_number(annotation, "size/width")), int(_number(annotation, "size/height"))
    if said != size:
        raise Wrong(other_size(said, image, size))


def _instance(thing: Element, size: Size) -> Instance:
    name = class_name(thing.findtext("name") or "")
    if not name:
        raise Wrong("an object without <name>; name its class")
    left, top, right, bottom = (_number(thing, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
    # A negative edge stays as it is, to be refused.
    return box_instance(name, (max(left - 1, min(left, 0)), max(top - 1, min(top, 0)), right, bottom), size)


def _number(element: Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise Wrong(f"no <{path.replace('/', '><')}>; add it or export it again")
    return parsed_number(text.strip(), f"<{path.rpartition('/')[2]}>")
