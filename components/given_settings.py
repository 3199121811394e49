"""Settings as people give them: a YAML file, and ``key=value`` assignments over it.

Not covered: what the keys mean (`components.settings`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.documents import parse_yaml, shown
from components.errors import SettingsError, UserError, without_credentials
from components.printable import one_line
from components.settings import DEEPEST

#: A file of settings has a few kilobytes; what is larger is another file, or a device without end.
_LARGEST = 256 << 10
#: Characters of an assignment that a message repeats.
_LONGEST = 200


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Raises:
        UserError: when it cannot be read, is not YAML (with the line), or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"{path}: larger than {_LARGEST >> 10} KiB, so no settings; give a YAML file")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a YAML file") from None
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}: the top level is a {type(data).__name__}; settings are `key: value` lines")
    return data


def override(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """`data` with each ``a.b=value`` applied; values are read as YAML, so ``[1, 2]`` is a list.

    Raises:
        SettingsError: for each assignment without ``=``, with bad YAML, below a plain value, or too far below.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    problems = []
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        path = key.strip().split(".")
        said = f"--set {one_line(without_credentials(assignment), _LONGEST)}"
        if not separator or not all(path):
            problems.append(f"{said}: write it as key=value, for example train.max_train_steps=200")
            continue
        if len(path) > DEEPEST:
            problems.append(f"{said}: {len(path):,} keys one below the other; there are three at most")
            continue
        try:
            value = parse_yaml(text) if text.strip() else ""
        except ValueError:
            problems.append(f"{said}: {shown(without_credentials(text))} is not a YAML value; quote it")
            continue
        target = result
        for part in path[:-1]:
            below = target.setdefault(part, {})
            if not isinstance(below, dict):
                problems.append(f"{said}: {part} is a plain value and has nothing below it")
                break
            target = below
        else:
            target[path[-1]] = value
    if problems:
        raise SettingsError(*problems)
    return result
