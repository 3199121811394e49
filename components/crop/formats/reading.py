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

# A parsed file takes about ten times its size in memory.
LARGEST = 512 << 20
_HEAD = 1 << 16
_SHOWN = 60


class Wrong(Exception):
    """An annotation that cannot be used; the message says why and what to do, without its place."""


def read_text(path: Path) -> str:
    """A UTF-8 text file, without a byte order mark.

    Raises:
        Wrong: when it is no UTF-8 or larger than `LARGEST` bytes.
    """
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Wrong(f"not UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file; ``NaN`` and ``Infinity`` are read as such, for the caller to refuse in their place.

    Raises:
        Wrong: when it is no JSON, naming line and column, or as `read_text`.
    """
    text = read_text(path)
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
        Wrong: when it is no XML, has a document type definition, or is larger than `LARGEST` bytes.
    """
    data = _read_bytes(path)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def refuse(*_: object) -> None:
        raise Wrong("has a document type definition (<!DOCTYPE …>), which is not read; remove it")

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
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
    """A finite number.

    Raises:
        Wrong: for anything else: text, true and false, NaN, infinity. `what` names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"{what} is {shown(value)}, which is no number; correct it")
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise Wrong(f"{what} is {converted}, which is no place in an image; correct it or remove the annotation")
    return converted


def parsed_number(text: str, what: str) -> float:
    """The finite number that `text` spells.

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


def other_size(said: tuple[object, object], image: str, size: tuple[int, int]) -> str:
    """That an annotation says another width and height than its image has."""
    return (
        f"says {shown(said[0])} × {shown(said[1])} pixels but {image} is {size[0]} × {size[1]} as displayed; "
        "annotate the image that is there"
    )


def _read_bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > LARGEST:
        raise Wrong(f"{size >> 20} MB, more than the {LARGEST >> 20} MB that are read; split it by images")
    return path.read_bytes()
