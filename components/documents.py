"""JSON and YAML that others wrote, read so that whatever it says ends in a value or in one kind of error.

Python's readers answer some documents with other errors than their own (nesting, numbers of a million digits, dates
that there are none of), a few lines of YAML can stand for gigabytes, and of a key that is given twice only the last
value would be seen. Here too: values as a message repeats them. Not covered: what a document means.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from typing import Any

import yaml

#: As many values as a YAML document may hold, each reference counted as all that it repeats.
MOST_VALUES = 100_000
#: Characters of a YAML document: PyYAML reads about 60,000 of them in a second.
LONGEST = 1 << 20
#: Beyond any setting; Python refuses to write out integers of some thousand digits.
_MOST_BITS = 1024

#: What stands in a key's place and is none: ``<<`` and ``=``.
_NO_KEYS = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")

# What PyYAML and the conversions below it raise over a document that they do not understand.
_MISREAD = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


def parse_json(data: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: for anything else, for one that is nested too deeply, and for an object that gives a key twice.
    """
    try:
        return json.loads(data, object_pairs_hook=_unrepeated)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML document: mappings, lists and plain values.

    Raises:
        ValueError: for anything else, with the line where that is known; for a value that refers to itself, for a
            mapping that gives a key twice (of what it takes over with ``<<`` it may give one anew), and for a document
            of more than `MOST_VALUES` values or `LONGEST` characters.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST:,} characters")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, loader)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except _MISREAD as error:
        raise ValueError(str(error) or type(error).__name__) from None


def shown(value: object, longest: int = 120) -> str:
    """A value as a message repeats it: on one line, cut to about `longest` characters, nested ones too."""
    quoting = reprlib.Repr()
    quoting.maxstring = quoting.maxother = quoting.maxlong = longest
    text = quoting.repr(value)
    return text if len(text) <= longest else text[: longest - 3] + "…"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without integers that cannot be written out again."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > _MOST_BITS:
            raise ValueError(f"line {node.start_mark.line + 1}: an integer of too many digits")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(twice)} is given twice, and only the last one would count; keep one of them")
    return made


def _require_unrepeated(node: yaml.MappingNode, loader: _Loader) -> None:
    """Refuse a key that is given twice. Before the mappings that ``<<`` takes over are put in: they may repeat keys."""
    seen: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag in _NO_KEYS:
            continue
        line, value = key.start_mark.line + 1, loader.construct_object(key)
        if value in seen:
            raise ValueError(
                f"line {line}: the key {shown(value)} is given twice, first in line {seen[value]}; keep one of them"
            )
        seen[value] = line


def _count(node: yaml.Node, known: dict[int, int | None], loader: _Loader) -> int:
    """Values below and with `node`; `known` has those of nodes seen before, None while they are being counted."""
    if id(node) in known:
        seen = known[id(node)]
        if seen is None:
            raise ValueError(f"line {node.start_mark.line + 1}: a value that holds itself")
        return seen
    known[id(node)] = None
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count(item, known, loader) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        _require_unrepeated(node, loader)
        total += sum(_count(part, known, loader) for pair in node.value for part in pair)
    if total > MOST_VALUES:
        raise ValueError(f"line {node.start_mark.line + 1}: stands for more than {MOST_VALUES:,} values")
    known[id(node)] = total
    return total
