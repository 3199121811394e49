"""Typed settings: one pydantic model a step, and every mistake in them reported together.

Covers the base class, decoding of mappings (from YAML, JSON or KFP's ExecutorInput) and the error
text. Not covered: where settings come from (`pipelines.config`, `components.runtime`).
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from components.documents import shown
from components.errors import MOST_PROBLEMS, SettingsError, holds_credentials, without_credentials
from components.printable import is_text, one_line

#: What is wrong with a value that holds a secret, and what to do; the value itself is not repeated.
CREDENTIALS = (
    "holds a user name, a password or a token, and is recorded in what is made; take it out, and give it in the "
    "environment (STORE_*, HF_TOKEN) or to git (a credential helper, an SSH key)"
)
#: Type of the mistakes whose value is not repeated, since it may hold a secret.
UNSHOWN = "unshown"
#: Levels of settings, which are three at most.
DEEPEST = 20
#: Characters of a key that a message repeats.
_LONGEST_KEY = 200


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, numbers that are finite.

    Whole floats are taken for integers, since a KFP ``dict`` parameter carries every number as a
    double (7 arrives as 7.0).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


S = TypeVar("S", bound=Settings)


def decode(model: type[S], data: Mapping[str, Any] | None, where: str) -> S:
    """`data` as a `model`; `where` (a file, a flag, a step's name) leads every message.

    Raises:
        SettingsError: with one line for each unknown key, each wrong value, each that holds a credential or is no text,
            and for settings below settings without end.
    """
    if not isinstance(data, (Mapping, types.NoneType)):
        raise SettingsError(f"{where or 'settings'}: {shown(data)} is no mapping; settings are `key: value` lines")
    texts = list(_texts(data or {}, where))
    secret = [f"{_cut(key)}: {CREDENTIALS}" for key, text in texts if holds_credentials(text)]
    if secret:
        raise SettingsError(*secret)
    if wrong := [
        f"{_cut(key)}: {shown(text)} is no valid text; correct it" for key, text in texts if not is_text(text)
    ]:
        raise SettingsError(*wrong)
    try:
        return model.model_validate(dict(data or {}))
    except ValidationError as error:
        raise SettingsError(*problems(model, error, where)) from None


def _texts(value: Any, key: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text below `value`, keys included, with the key that it stands under.

    Raises:
        SettingsError: beyond `DEEPEST` levels.
    """
    if depth > DEEPEST:
        raise SettingsError(f"{_cut(key)}: settings below settings, {DEEPEST} levels deep; there are three at most")
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, below in value.items():
            under = f"{key}.{name}" if key else str(name)
            yield under, str(name)
            yield from _texts(below, under, depth + 1)
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from _texts(below, key, depth + 1)


def _cut(key: str) -> str:
    # Cut after what must not be repeated is gone: a part of it might no longer be known.
    return one_line(without_credentials(key), _LONGEST_KEY)


def problems(model: type[BaseModel], error: ValidationError, where: str) -> list[str]:
    """One line a mistake: the key, what is wrong with it and what would be right."""
    lines: list[str] = []
    for mistake in error.errors(include_url=False):
        path = [str(part) for part in mistake["loc"]]
        key = _cut(".".join([where, *path]) if where else ".".join(path))
        if mistake["type"] == "extra_forbidden":
            if len(lines) >= MOST_PROBLEMS:
                # Counted and not told.
                lines.append(f"{key}: unknown setting")
                continue
            known = _known_keys(model, mistake["loc"][:-1])
            close = difflib.get_close_matches(path[-1][:_LONGEST_KEY], known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            lines.append(f"{key}: unknown setting; {hint}known here: {', '.join(known)}")
        elif mistake["type"] == "missing":
            lines.append(f"{key}: missing; give it a value")
        else:
            text = mistake["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            untold = mistake["type"] == UNSHOWN or isinstance(mistake["input"], (dict, BaseModel))
            given = "" if untold else f" (given: {shown(mistake['input'])})"
            lines.append(f"{key or 'settings'}: {text[0].lower() + text[1:]}{given}")
    return lines


def _known_keys(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        current = _model_in(field.annotation) if field else None
        if current is None:
            return []
    return sorted(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model in an annotation such as ``CropConfig | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            if (found := _model_in(part)) is not None:
                return found
    return None
