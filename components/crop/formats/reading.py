"""Text, JSON and XML files of annotations, read so that a damaged one is said to be damaged.

Not covered: what they mean, which is each format's.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from components import documents
from components.crop.annotations import Problem
from components.crop.class_names import class_problem

# What a file takes in memory depends less on its bytes than on the values in them: a list of nothing takes fifty times
# the bytes that it is written in. So both are bounded: for files about many images such that one takes 2.5 GB at most,
# more tightly for files about one image, of which as many are read at once as there are cores.

#: Bytes of a file.
LARGEST = 128 << 20
#: Numbers, texts, lists and objects of a JSON file, and lines of a table.
MOST_VALUES, MOST_LINES = 16_000_000, 1_000_000
#: Bytes of lines about one image, values of a JSON file about one, elements of an XML file about one.
LARGEST_LINES, MOST_VALUES_OF_AN_IMAGE, MOST_ELEMENTS = 8 << 20, 1_000_000, 100_000
#: What is wrong with one file, or with all that annotate the images of a data set together.
MOST_PROBLEMS = 100_000
#: Pixels from the image's corner: what is farther is no place in it, and its square would be no number.
_FARTHEST = 1e12
_HEAD = 1 << 16
_SHOWN = 60


class Wrong(Exception):
    """An annotation that cannot be used; the message says why and what to do, without its place."""


def noted(problems: list[Problem], problem: Problem) -> bool:
    """Add to what is wrong; whether to read on, which there is no use in after `MOST_PROBLEMS`."""
    if len(problems) < MOST_PROBLEMS:
        problems.append(problem)
        return True
    if len(problems) == MOST_PROBLEMS:
        problems.append(Problem(problem.path, "and all after it was not read, so much is wrong; export it again"))
    return False


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """A file of at most `largest` bytes.

    Raises:
        Wrong: when it is larger.
    """
    if (size := path.stat().st_size) > largest:
        raise Wrong(f"{size >> 20} MB, more than the {largest >> 20} MB that are read; split it by images")
    return path.read_bytes()


def read_text(path: Path, largest: int = LARGEST) -> str:
    """A UTF-8 text file, without a byte order mark.

    Raises:
        Wrong: when it is no UTF-8 or larger than `largest` bytes.
    """
    return _text(read_bytes(path, largest))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Wrong(f"not UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_json(path: Path, most: int = MOST_VALUES) -> Any:
    """The value in a JSON file; ``NaN`` and ``Infinity`` are read as such, for the caller to refuse in their place.

    Raises:
        Wrong: when it is no JSON, naming line and column, when it holds more than `most` values, or as `read_text`.
    """
    data = read_bytes(path)
    if sum(data.count(mark) for mark in b",[{") > most:
        raise Wrong(f"more than {most:,} numbers, texts and lists, which is too much at once; split it by images")
    text = _text(data)
    del data
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "cut short" if cut else error.msg
        raise Wrong(f"not valid JSON: line {error.lineno}, column {error.colno}: {what}; export it again") from None
    except RecursionError:
        raise Wrong("not valid JSON: nested too deeply; export it again") from None
    except ValueError as error:
        # Integers of more digits than Python reads.
        raise Wrong(f"not valid JSON: {error}; export it again") from None


def read_xml(path: Path) -> Element:
    """The root of an XML file. Each element has its line as the attribute ``line``.

    A document type definition is refused: annotations need none, and it is where entities that expand
    without end, or that name other files, are declared.

    Raises:
        Wrong: when it is no XML, has a document type definition, more than `MOST_ELEMENTS` or `LARGEST` bytes.
    """
    data = read_bytes(path)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = elements = 0

    def refuse(*_: object) -> None:
        raise Wrong("has a document type definition (<!DOCTYPE …>), which is not read; remove it")

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if elements > MOST_ELEMENTS:
            raise Wrong(f"more than {MOST_ELEMENTS:,} elements for one image; export it again")
        # Python's own clean-up of a deeper tree would recurse.
        if depth > 100:
            raise Wrong("not a plain XML file: nested too deeply; export it again")
        builder.start(tag, {"line": str(parser.CurrentLineNumber)})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Wrong(f"not valid XML: {error}; export it again") from None
    except (LookupError, ValueError) as error:
        raise Wrong(f"not valid XML: its encoding cannot be read ({error}); save it as UTF-8") from None
    return builder.close()


def head(path: Path) -> str:
    """The beginning of a text file, for telling what it is; damaged characters are replaced."""
    with path.open("rb") as file:
        start = file.read(_HEAD)
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return start.decode(encoding, errors="replace").lstrip()


def number(value: object, what: str) -> float:
    """A number that may be a coordinate.

    Raises:
        Wrong: for anything else: text, true and false, NaN, infinity, what is far from any image. `what` names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"{what} is {shown(value)}, which is no number; correct it")
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not abs(converted) <= _FARTHEST:
        raise Wrong(f"{what} is {converted:g}, which is no place in an image; correct it or remove the annotation")
    return converted


def parsed_number(text: str, what: str) -> float:
    """The `number` that `text` spells.

    Raises:
        Wrong: when it spells none.
    """
    try:
        return number(float(text), what)
    except ValueError:
        raise Wrong(f"{what} is {shown(text)}, which is no number; correct it") from None


def shown(value: object) -> str:
    """A value as it is quoted in a message about an annotation."""
    return documents.shown(value, _SHOWN)


def class_name(text: str) -> str:
    """`text`, which annotations give as the name of a class, without blanks around it. Every format's names pass here.

    Raises:
        Wrong: for what cannot be one.
    """
    name = text.strip()
    if problem := class_problem(name):
        raise Wrong(f"the class {shown(name)} {problem}; rename it")
    return name


def other_size(said: tuple[object, object], image: str, size: tuple[int, int]) -> str:
    """That an annotation says another width and height than its image has."""
    return (
        f"says {shown(said[0])} × {shown(said[1])} pixels but {image} is {size[0]} × {size[1]} as displayed; "
        "annotate the image that is there"
    )
