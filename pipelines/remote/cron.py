"""Times of day for schedules: cron expressions, in the form that Kubeflow Pipelines reads.

KFP reads six fields, the first of them seconds (github.com/robfig/cron, version 1). Given five it takes them for the
first five of six: ``0 6 * * 1``, Mondays at six to anyone else, would run every hour of January at six minutes past. So
five are read here as everybody means them, and given a second. Its Sunday is 0 alone, not 7. A step begins anew with
each minute, hour, day or month: ``*/90`` in the field of minutes, which would be the first minute of every hour, is
refused.
"""

from __future__ import annotations

import re

from components.errors import UserError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS)),
    ("day of the week", 0, 6, tuple(_DAYS)),
)
_DESCRIPTORS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")


def for_kfp(expression: str) -> tuple[str, str | None]:
    """The expression as KFP reads it, and a note where that is not what was written.

    Raises:
        UserError: with everything that is wrong in it.
    """
    fields = expression.split()
    if len(fields) == 1 and fields[0] in _DESCRIPTORS:
        return fields[0], None
    if len(fields) not in (5, 6):
        raise UserError(
            f"--cron {expression!r}: has {len(fields)} fields; write six (second minute hour day month weekday), as "
            f"KFP reads them, or five without the second, or one of {' '.join(_DESCRIPTORS)}"
        )
    if len(fields) == 5:
        fields = ["0", *fields[:4], _sunday(fields[4])]
    problems = [
        f"--cron {expression!r}: {name}: {wrong}"
        for field, (name, low, high, names) in zip(fields, _FIELDS)
        if (wrong := _wrong(field, low, high, names)) is not None
    ]
    if problems:
        raise UserError(*problems)
    made = " ".join(fields)
    if len(expression.split()) == 6:
        return made, None
    return made, f"{expression!r} has five fields; KFP reads six, the first of them seconds: {made!r}"


def _sunday(field: str) -> str:
    """Seven as zero, in lists and ranges too."""
    parts = []
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "7":
            part = "0" + (f"/{step}" if step else "")
        elif (match := re.fullmatch(r"([0-6])-7", span)) is not None and not (step.isdigit() and int(step) > 7):
            days = list(range(int(match[1]), 8))[:: int(step) if step.isdigit() and int(step) else 1]
            part = ",".join(str(day % 7) for day in days)
        parts.append(part)
    return ",".join(parts)


def _wrong(field: str, low: int, high: int, names: tuple[str, ...]) -> str | None:
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdigit() or int(step) == 0):
            return f"{part!r}: the step after / is a number from 1 on"
        if slash and int(step) > high - low + 1:
            return f"{part!r}: the field has {high - low + 1} values, a step of {step} would take the first one alone"
        if span in ("*", "?"):
            continue
        ends = [_number(end, names) for end in span.split("-")]
        if len(ends) > 2 or None in ends:
            return f"{part!r}: write {low} to {high}, a range, a list, or *"
        numbers = [end for end in ends if end is not None]
        if not all(low <= number <= high for number in numbers) or numbers != sorted(numbers):
            return f"{part!r}: is not within {low} to {high}"
    return None


def _number(text: str, names: tuple[str, ...]) -> int | None:
    if text.isdigit() and text.isascii():
        return int(text)
    return names.index(text.lower()) if text and text.lower() in names else None
