"""Exceptions and the exit status each one ends a process with.

    Exception
    ├── UserError            2   the user's input: a path, a file, a setting, a permission
    │   └── SettingsError    2   one or more wrong settings, all of them listed
    └── Unavailable         75   something outside did not answer: try again later

What the machine's disk refuses counts as the first (`components.disk`), and so does memory that runs out
(`components.shortage`): the same command ends the same way until one of them is changed. Everything else is a defect of
ours and ends in a traceback (status 1); an interrupt ends with 130, SIGTERM with 143. It is the same for every step in
direct use and for the command line. KFP knows two ends only: 0, and failed.

A message says what was wrong, where, and what to do about it; it never contains a credential: of a URL, the user's
name, the password and the values that sign or open it are left out of whatever is raised. Whatever it repeats, it can
be printed: its lines are those of `components.printable`, and of many problems the first are told.
"""

from __future__ import annotations

import re

from components import printable

#: Problems that one message tells.
MOST_PROBLEMS = 20
#: Characters of a problem that are looked through for what must not be repeated, which is more than are printed.
_LOOKED_THROUGH = 100_000

#: What is secret wherever it is assigned.
_SECRET_NAME = r"[\w-]{0,40}(?:token|secret|password|signature|credential|key)[\w-]{0,40}"

#: What a URL may carry that must not be repeated, with what stays of it. A password may hold anything, and ends at the
#: last ``@``; a name alone is SSH's way to say who asks, and elsewhere most often a token. Each part has a longest
#: length, so that no text takes long to look through.
_SECRETS = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@:]{0,200}:[^\s]{0,2000}@"), r"\1…@"),
    (re.compile(r"(?i)\b((?!(?:[a-z0-9]{1,10}\+)?ssh:)[a-z][a-z0-9+.-]{0,30}://)[^\s/@]{1,500}@"), r"\1…@"),
    (re.compile(rf"(?i)([?&]{_SECRET_NAME}=)[^\s&'\"]+"), r"\1…"),
    # Azure's connection strings.
    (re.compile(r"(?i)\b((?:AccountKey|SharedAccessSignature)=)[^\s;'\"]+"), r"\1…"),
)

#: What follows the place in a URL, where words mean a secret that mean anything elsewhere.
_AFTER = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s?#;]{0,2000}[?#;]\S{1,20000}")
_SIGNS = re.compile(
    rf"(?i)([?&#;](?:{_SECRET_NAME}"
    r"|(?:[\w-]{0,40}[_-])?(?:sig|sas|code|auth|pwd|pw|pass|jwt|sid|sessionid))=)[^\s&#;'\"]+"
)


def without_credentials(text: str) -> str:
    """`text` with what opens the URLs in it left out."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return _AFTER.sub(lambda url: _SIGNS.sub(r"\1…", url[0]), text)


def holds_credentials(text: str) -> bool:
    """Whether a URL in `text` carries a user's name, a password, a token or a signature."""
    return without_credentials(text) != text


class UserError(Exception):
    """One or more mistakes in what the user gave, each with its place and its remedy."""

    status = 2

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise ValueError("a UserError needs at least one problem")
        self.problems: tuple[str, ...] = tuple(map(_told, problems))
        super().__init__(*self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        told = [f"  - {p}" for p in self.problems[:MOST_PROBLEMS]]
        if left := len(self.problems) - len(told):
            told.append(f"  and {left:,} more")
        return f"{len(self.problems):,} problems:\n" + "\n".join(told)


class SettingsError(UserError):
    """Wrong settings: unknown keys, wrong types, values out of range."""


class Unavailable(Exception):
    """A service that this process needs did not answer; the same command may work later."""

    status = 75

    def __init__(self, problem: str) -> None:
        super().__init__(_told(problem))


def _told(problem: str) -> str:
    """A problem as it is printed. What must not be repeated goes first: a part of it might no longer be known."""
    return printable.lines(without_credentials(problem[:_LOOKED_THROUGH]))
