"""Exceptions and the exit status each one ends a process with.

    Exception
    ├── UserError            2   the user's input: a path, a file, a setting, a permission
    │   └── SettingsError    2   one or more wrong settings, all of them listed
    └── Unavailable         75   something outside did not answer: try again later

What the machine's disk refuses counts as the first (`components.disk`). Everything else is a defect of ours and ends
in a traceback (status 1). A step that is asked to end by a signal ends with 128 and the signal's number. A message says
what was wrong, where, and what to do about it; it never contains a credential.
"""

from __future__ import annotations


class UserError(Exception):
    """One or more mistakes in what the user gave, each with its place and its remedy."""

    status = 2

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise ValueError("a UserError needs at least one problem")
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  - {p}" for p in self.problems)


class SettingsError(UserError):
    """Wrong settings: unknown keys, wrong types, values out of range."""


class Unavailable(Exception):
    """A service that this process needs did not answer; the same command may work later."""

    status = 75
