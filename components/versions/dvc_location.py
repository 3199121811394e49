"""How a data set that DVC tracks is named: ``dvc+<git URL>?path=<folder>&rev=<branch, tag or commit>``.

As pip writes ``git+https://…``: the repository's own URL stands in it unchanged, whatever its scheme, and what
DVC calls path and rev follow as a query. ``remote=<name>`` takes another DVC remote than the default one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from components.errors import UserError
from components.storage.uri import key_problem

_PREFIX = "dvc+"
_SCHEMES = ("https", "http", "ssh", "git", "file")
_KEYS = ("path", "rev", "remote")
_REV = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_EXAMPLE = "write dvc+https://host/repository.git?path=data/images&rev=v1"


@dataclass(frozen=True)
class DvcLocation:
    """A location's parts."""

    repository: str  #: git URL
    path: str  #: of the data in the repository; empty for all of it
    rev: str  #: branch, tag or commit; ``HEAD`` for the default branch
    remote: str  #: name of the DVC remote; empty for the default

    @property
    def name(self) -> str:
        """The data set's name: the last part of the path, or the repository's name."""
        return (self.path or self.repository.rstrip("/").removesuffix(".git")).rpartition("/")[2]


def is_dvc(location: str) -> bool:
    """Whether `location` is of this form."""
    return location.startswith(_PREFIX)


def parse(location: str) -> DvcLocation:
    """The parts of a location.

    Raises:
        UserError: for what is not of the form above, and for a user name or password in it, since a location is
            recorded in what is made of the data.
    """
    url, _, query = location.removeprefix(_PREFIX).partition("?")
    # Not repeated: what stands before the host, and what follows the path.
    shown = re.split("[?#]", location)[0] if "@" not in url else f"{_PREFIX}…"
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError as error:
        raise UserError(f"dataset: {shown}: no URL of a git repository ({error}); {_EXAMPLE}") from None
    if parts.scheme not in _SCHEMES or not (parts.hostname or parts.scheme == "file") or not parts.path.strip("/"):
        raise UserError(f"dataset: {shown}: no URL of a git repository ({', '.join(_SCHEMES)}); {_EXAMPLE}")
    if password is not None or (user is not None and parts.scheme != "ssh"):
        raise UserError(
            "dataset: the repository's URL holds a user name or password; take it out and let git know it (a "
            "credential helper, or an SSH key)"
        )
    if parts.fragment and parts.scheme != "file":
        raise UserError(f"dataset: {shown}: goes on after #, which means nothing to git; {_EXAMPLE}")
    given: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in _KEYS or not value or key in given:
            raise UserError(f"dataset: {shown}: {key!r}: give each of {', '.join(_KEYS)} once, as key=value")
        given[key] = unquote(value)
    path = given.get("path", "").rstrip("/")
    if not path:
        raise UserError(f"dataset: {shown}: no path; {_EXAMPLE} (path=. for the whole repository)")
    if path != "." and (problem := key_problem(path)):
        raise UserError(f"dataset: {shown}: the path {path!r} {problem}; give it relative to the repository")
    rev = given.get("rev", "HEAD")
    if not _REV.fullmatch(rev):
        raise UserError(f"dataset: {shown}: rev {rev!r} is no branch, tag or commit")
    return DvcLocation(url, "" if path == "." else path, rev, given.get("remote", ""))
