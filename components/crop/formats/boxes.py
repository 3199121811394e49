"""A plain table of boxes: CSV with a line of column names, one defect a line.

    image,class,x0,y0,x1,y1
    images/a.png,scratch,10,20,40,35

Pixels, half-open: x1 and y1 are the first that are outside. The columns may be in any order, among others, under the
names in `_ALIASES`, with commas, semicolons or tabs between them. Instead of x1 and y1 a table may have the box's
width and height (in a table with both corners these are the image's). A line with an image alone is a good image.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.crop.annotations import Annotated, AnnotatedImage, Format, Found, Problem
from components.crop.formats.locating import Images
from components.crop.formats.reading import MOST_LINES, Wrong, class_name, head, noted, parsed_number, read_text
from components.crop.formats.shapes import Instance, Size, annotated_image, box_instance
from components.crop.images import displayed_size

_ALIASES = {
    "image": ("image", "image_path", "image_name", "filename", "file_name", "file", "path"),
    "class": ("class", "class_name", "label", "category", "defect", "name"),
}
# What the four numbers may be called; the first row that a table has in full counts.
_CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = tuple(
    (*corner, *side)
    for corner in (("x", "y"), ("x0", "y0"), ("xmin", "ymin"), ("x_min", "y_min"), ("left", "top"))
    for side in (("width", "height"), ("w", "h"))
) + (("bbox_x", "bbox_y", "bbox_width", "bbox_height"),)


@dataclass(frozen=True)
class Columns:
    """Where a table's columns are."""

    image: int
    defect: int
    numbers: tuple[int, int, int, int]
    names: tuple[str, ...]
    sized: bool  #: the last two numbers are width and height

    @property
    def count(self) -> int:
        return 1 + max(self.image, self.defect, *self.numbers)


@dataclass(frozen=True)
class Row:
    """One defect, before its image's size is known."""

    place: str
    defect: str
    numbers: tuple[str, ...]
    columns: Columns


class Boxes(Format):
    name = "csv"
    layout = """\
boxes.csv                               a table: image,class,x0,y0,x1,y1 (pixels, half-open), one defect a line
images/a.png                            the images, in any folder"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = Images(files)
        rows: dict[str, list[Row]] = defaultdict(list)
        tables: dict[str, set[str]] = defaultdict(set)
        problems: list[Problem] = []
        for path in (f for f in files if f.lower().endswith((".csv", ".tsv"))):
            try:
                table = _table(head(root / path).partition("\n")[0])
                if table is not None:
                    _collect(root, path, *table, images, rows, tables, problems)
            except Wrong as error:
                problems.append(Problem(path, str(error)))
        items = sorted(Annotated(image, tuple(sorted(tables[image])), tuple(rows[image])) for image in tables)
        summary = f"{len(items)} images in a table of boxes"
        if unused := len(images.paths) - len(items):
            summary += f"; {unused} images that it does not list are not used"
        return Found(items, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        assert isinstance(item.content, tuple)
        size = displayed_size(root / item.image)
        return annotated_image(item.image, size, ((r.place, r) for r in item.content), lambda row: _instance(row, size))


def _table(header: str) -> tuple[Columns, str] | None:
    """A table's columns and what is between them; none for a table of something else.

    Raises:
        Wrong: for a table of boxes that lacks a column.
    """
    delimiter = max(",;\t", key=header.count)
    names = [name.strip().strip('"').lower().replace(" ", "_") for name in header.split(delimiter)]
    image = next((names.index(alias) for alias in _ALIASES["image"] if alias in names), None)
    defect = next((names.index(alias) for alias in _ALIASES["class"] if alias in names), None)
    corners = next((names_ for names_ in _CORNERS if set(names_) <= set(names)), None)
    sized = None if corners else next((names_ for names_ in _SIZED if set(names_) <= set(names)), None)
    numbers = corners or sized
    if image is not None and defect is not None and numbers:
        a, b, c, d = (names.index(name) for name in numbers)
        return Columns(image, defect, (a, b, c, d), numbers, sized is not None), delimiter
    some = any(set(names_[:2]) <= set(names) or set(names_[2:]) <= set(names) for names_ in _CORNERS)
    if sum((image is not None, defect is not None, bool(numbers) or some)) < 2:
        return None
    lacking = [
        what
        for what, there in (("image", image is not None), ("class", defect is not None), ("x0,y0,x1,y1", bool(numbers)))
        if not there
    ]
    raise Wrong(f"no column {', '.join(lacking)} in its first line; write image,class,x0,y0,x1,y1 there")


def _collect(
    root: Path,
    path: str,
    columns: Columns,
    delimiter: str,
    images: Images,
    rows: dict[str, list[Row]],
    tables: dict[str, set[str]],
    problems: list[Problem],
) -> None:
    """Add a table's lines to `rows` and `tables`, and what is wrong with them to `problems`."""
    text = read_text(root / path)
    if max(map(text.count, "\r\n")) > MOST_LINES:
        raise Wrong(f"more than {MOST_LINES:,} lines; split it by images")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    filled = (cells for cells in reader if any(cell.strip() for cell in cells))
    try:
        next(filled, None)
        for cells in filled:
            place = f"{path}:{reader.line_num}"
            try:
                cells = [cell.strip() for cell in cells] + [""] * (columns.count - len(cells))
                image = images.locate(cells[columns.image], path)
                numbers = tuple(cells[i] for i in columns.numbers)
                if any(numbers) or cells[columns.defect]:
                    rows[image].append(Row(place, cells[columns.defect], numbers, columns))
                tables[image].add(path)
            except Wrong as error:
                if not noted(problems, Problem(place, str(error))):
                    return
    except csv.Error as error:
        raise Wrong(f"line {reader.line_num}: no table that can be read ({error}); export it again") from None


def _instance(row: Row, size: Size) -> Instance:
    if not row.defect:
        raise Wrong("no class; name it, or leave all but the image empty for a good image")
    a, b, c, d = (parsed_number(text, f"the column {name}") for text, name in zip(row.numbers, row.columns.names))
    edges = (a, b, a + c, b + d) if row.columns.sized else (a, b, c, d)
    return box_instance(class_name(row.defect), edges, size)
