"""YOLO's text files of boxes and polygons (Ultralytics' and Darknet's documentation of their data sets).

One defect a line: ``class x y width height``, centre and size as fractions of the image, or ``class x y x y x y …``, a
polygon (of four points: an oriented box). The text of ``images/…/a.jpg`` is ``labels/…/a.txt``, or lies beside the
image; an image without one, or with an empty one, is good. Names of the classes are in ``data.yaml``, ``classes.txt``
or ``obj.names``. Not covered: key points, and detectors' results with a confidence.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from components.crop.annotations import Annotated, AnnotatedImage, Format, Found, Problem
from components.crop.formats.locating import Images
from components.crop.formats.polygons import polygon_instance
from components.crop.formats.reading import (
    LARGEST_LINES,
    Wrong,
    class_name,
    head,
    noted,
    parsed_number,
    read_text,
    shown,
)
from components.crop.formats.shapes import Instance, Size, box_instance, defects_of
from components.crop.images import displayed_size
from components.documents import parse_yaml

Names = Mapping[int, str]

# Rounding that writers allow themselves at the image's edge.
_SLACK = 0.001
_LINE = re.compile(r"\s*\d+(\.0*)?(\s+[-+.\deE]+){4,}\s*(\n|$)")


class Yolo(Format):
    name = "yolo"
    layout = """\
data.yaml                               YOLO: names of the classes (or classes.txt, obj.names)
images/train/a.jpg                      an image
labels/train/a.txt                      its defects: class x y width height, or class and a polygon"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = Images(files)
        texts = {f for f in files if f.lower().endswith(".txt")}
        labels = {image: next((t for t in _labels_of(image) if t in texts), None) for image in sorted(images.paths)}
        used = {text for text in labels.values() if text}
        if not used:
            return Found()
        names, problems = _read_names(root, [f for f in files if _may_name(f) and f not in used])
        # Texts beside images may as well be captions.
        if not (names or problems) and not any(_looks_right(root / text) for text in sorted(used)):
            return Found()
        items = []
        for image, text in labels.items():
            known = _nearest(names, text or image)
            if known is not None:
                items.append(Annotated(image, (text,) if text else (), known))
        if not names and not problems:
            problems.append(
                Problem(
                    min(used), "classes by number without names; add data.yaml, or classes.txt with one name a line"
                )
            )
        problems += [
            Problem(text, f"labels of an image that is not there; it should be {_image_of(text)}")
            for text in sorted(texts - used)
            if not _may_name(text) and ("labels" in text.split("/") or _looks_right(root / text))
        ]
        good = sum(not item.annotations for item in items)
        summary = f"{len(items)} images, {len(items) - good} of them with a text file"
        if good:
            summary += f"; {good} without one are taken as good"
        return Found(items, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        assert isinstance(item.content, Mapping)
        size = displayed_size(root / item.image)
        instances: list[Instance] = []
        problems: list[Problem] = []
        for text in item.annotations:
            try:
                lines = read_text(root / text, LARGEST_LINES).splitlines()
            except Wrong as error:
                problems.append(Problem(text, str(error)))
                continue
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip():
                        instances.append(_instance(line.split(), item.content, size))
                except Wrong as error:
                    if not noted(problems, Problem(f"{text}:{number}", str(error))):
                        break
        return AnnotatedImage(item.image, size, defects_of(instances, size), tuple(problems))


def _instance(columns: Sequence[str], names: Names, size: Size) -> Instance:
    if len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        raise Wrong(
            f"{len(columns)} columns instead of 5 (class x y width height) or 7, 9, … (class and a polygon's x y)"
        )
    kind = parsed_number(columns[0], "the class")
    if kind not in names:
        known = ", ".join(f"{number} {name}" for number, name in sorted(names.items())[:8])
        raise Wrong(f"class {columns[0]} has no name; known: {known}")
    values = [parsed_number(column, f"column {i}") for i, column in enumerate(columns[1:], start=2)]
    beyond = [value for value in values if not -_SLACK <= value <= 1 + _SLACK]
    if beyond:
        raise Wrong(f"{beyond[0]:g} is not between 0 and 1; coordinates are fractions of the image's width and height")
    name = names[int(kind)]
    if len(values) > 4:
        return polygon_instance(name, [[value * size[i % 2] for i, value in enumerate(values)]], size)
    x, y, width, height = values
    edges = (x - width / 2) * size[0], (y - height / 2) * size[1], (x + width / 2) * size[0], (y + height / 2) * size[1]
    return box_instance(name, edges, size)


def _labels_of(image: str) -> list[str]:
    """Where the text of an image may be, the likelier place first."""
    path = PurePosixPath(image).with_suffix(".txt")
    folders = list(path.parent.parts)
    places = [str(path)]
    for i in reversed(range(len(folders))):
        if folders[i].lower() == "images":
            places.insert(0, str(PurePosixPath(*folders[:i], "labels", *folders[i + 1 :], path.name)))
            break
    return places


def _image_of(text: str) -> str:
    path = PurePosixPath(text)
    folders = ["images" if folder == "labels" else folder for folder in path.parent.parts]
    return str(PurePosixPath(*folders, f"{path.stem}.*"))


def _may_name(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return name in ("classes.txt", "_darknet.labels") or name.endswith((".names", ".yaml", ".yml"))


def _looks_right(path: Path) -> bool:
    return bool(_LINE.match(head(path)))


def _read_names(root: Path, files: Sequence[str]) -> tuple[dict[str, Names], list[Problem]]:
    """The files that name classes, and the problems with those that should."""
    found: dict[str, Names] = {}
    problems: list[Problem] = []
    for path in files:
        try:
            text = read_text(root / path, LARGEST_LINES)
            if path.lower().endswith((".yaml", ".yml")):
                names = _names_in_yaml(text)
            else:
                lines = enumerate(line.strip() for line in text.strip().splitlines())
                names = {number: class_name(name) for number, name in lines if name}
            if names is not None:
                found[path] = names
        except Wrong as error:
            problems.append(Problem(path, str(error)))
    return found, problems


def _names_in_yaml(text: str) -> Names | None:
    """The ``names`` of a data.yaml; none where there are none, as in other YAML files."""
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise Wrong(f"not valid YAML: {error}; correct it") from None
    if not isinstance(data, dict) or "names" not in data:
        return None
    names = data["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(type(key) is int for key in names):
        raise Wrong(f"names is {shown(names)} instead of a list, or numbers with names; correct it")
    for key, name in names.items():
        # YAML reads words such as no and off as false.
        if type(name) not in (str, int, float) or not str(name).strip():
            raise Wrong(f"the name of class {key} is {shown(name)}, which is no text; write it in quotes")
    return {key: class_name(str(name)) for key, name in names.items()}


def _nearest(names: Mapping[str, Names], path: str) -> Names | None:
    """The names that hold for a file: those in its folder, else in the folders above, else the only ones."""
    by_folder: dict[PurePosixPath, list[str]] = defaultdict(list)
    for file in sorted(names):
        by_folder[PurePosixPath(file).parent].append(file)
    for folder in PurePosixPath(path).parents:
        if folder in by_folder:
            # data.yaml before classes.txt: it says what the others are, and more.
            return names[min(by_folder[folder], key=lambda f: not f.lower().endswith((".yaml", ".yml")))]
    return next(iter(names.values()), None)
