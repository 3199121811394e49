"""Unpacking an archive so that whatever it holds does no harm.

Every entry ends up as a plain file below the target, or the archive is refused: nothing absolute, no ``..``, no link
that leads out of it, no device, and no more bytes than `Budget` grants. Names, permissions and owners of the archive
are not applied to anything else. Not covered: other kinds of archives, passwords, and which of the files are data.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import struct
import zlib
from collections.abc import Callable
from lzma import LZMAError
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

from components.archives.budget import Budget
from components.archives.entries import Entry, entries_of
from components.errors import UserError
from components.storage.uri import key_problem

_LISTED = 20
_BLOCK = 1 << 20
# What Python's readers raise over bytes that are no such archive, or one cut short.
_DAMAGED = (
    *(BadZipFile, TarError, zlib.error, LZMAError, EOFError, struct.error),
    *(ValueError, OverflowError, NotImplementedError),
)


def unpack(archive: Path, target: Path, shown: str, wanted: Callable[[str], bool]) -> int:
    """Write an archive's files below the empty folder `target`.

    Args:
        archive: a local file, named as `components.archives.stem_of` knows.
        shown: what messages call it.
        wanted: whether the entry of this name is written; sound names are asked for alone.

    Returns:
        how many files there are.

    Raises:
        UserError: for a damaged archive, one with unsound entries (all of them named), one of too many bytes, and a
            full disk. What was written until then lies below `target`.
    """
    writer = _Writer(target, wanted)
    budget = Budget(archive.stat().st_size, shutil.disk_usage(target).free)
    try:
        for entry in entries_of(archive, budget):
            budget.count()
            writer.take(entry)
        writer.join_links(budget)
    except _DAMAGED as error:
        raise UserError(f"{shown}: damaged, or no such archive ({error}); copy it again or pack it anew") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{shown}: the disk is full while it is unpacked below {target.parent}; free some space or set TMPDIR"
            ) from None
        # bzip2 names no error; zipfile seeks to wherever a damaged index points.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(f"{shown}: damaged ({error}); copy it again or pack it anew") from None
    except UserError as error:
        raise UserError(*(f"{shown}: {problem}" for problem in error.problems)) from None
    if problems := writer.problems:
        more = [f"{shown}: and {len(problems) - _LISTED} more entries like these"] if len(problems) > _LISTED else []
        raise UserError(*(f"{shown}: {problem}" for problem in problems[:_LISTED]), *more)
    if not writer.files:
        raise UserError(f"{shown}: holds no files (hidden ones do not count); pack the data into it")
    return len(writer.files)


class _Writer:
    """Files below a folder, each written once and nowhere else."""

    def __init__(self, target: Path, wanted: Callable[[str], bool]) -> None:
        self.target, self.wanted = target, wanted
        self.files: dict[str, int] = {}  #: name → bytes
        self.problems: list[str] = []
        self._folders: set[str] = set()
        self._links: dict[str, str] = {}

    def take(self, entry: Entry) -> None:
        """Write a file, remember a link, pass over a folder; what is unsound becomes a problem."""
        name = entry.name
        while name.startswith("./"):
            name = name[2:].lstrip("/")
        if entry.kind == "folder" and name.rstrip("/") in ("", "."):
            return
        if problem := key_problem(name.rstrip("/") if entry.kind == "folder" else name):
            self._refuse(entry, f"its name {problem}; pack it again with plain relative names")
        elif entry.kind == "folder" or not self.wanted(name):
            return
        elif entry.kind == "other":
            self._refuse(entry, "neither a file, a folder nor a link; leave it out")
        elif name in self.files or name in self._links:
            self._refuse(entry, "is there twice; leave one")
        elif name in self._folders or not self._make_way(name):
            self._refuse(entry, "is a file and a folder too; rename one")
        elif entry.kind == "link":
            self._remember(entry, name)
        else:
            self._write(entry, name)

    def _make_way(self, name: str) -> bool:
        """Note the folders above a name; whether none of them is a file."""
        above = name.split("/")[:-1]
        folders = ["/".join(above[: i + 1]) for i in range(len(above))]
        if any(folder in self.files or folder in self._links for folder in folders):
            return False
        self._folders.update(folders)
        return True

    def _write(self, entry: Entry, name: str) -> None:
        path = self.target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except FileExistsError:
            self._refuse(entry, "is there twice on a disk that takes a for A; rename one")
            return
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self._refuse(entry, "its name is too long for this disk; shorten it")
            return
        with file, entry.open() as source:
            shutil.copyfileobj(source, file, _BLOCK)
            self.files[name] = file.tell()

    def _remember(self, entry: Entry, name: str) -> None:
        aim = entry.link.removeprefix("./")
        if entry.relative:
            aim = posixpath.normpath(posixpath.join(posixpath.dirname(name), aim))
        if entry.link.startswith("/") or key_problem(aim):
            self._refuse(entry, f"a link to {entry.link!r}, which is outside; put the file in its place")
        else:
            self._links[name] = aim

    def join_links(self, budget: Budget) -> None:
        """Make each link the file that it leads to, by a second name for the same bytes."""
        written = dict(self.files)
        for name, first in self._links.items():
            aim, seen = first, {name}
            while aim in self._links and aim not in seen:
                seen.add(aim)
                aim = self._links[aim]
            if aim not in written:
                self.problems.append(
                    f"{name!r}: a link to {first!r}, which is no file of the archive; put the file there"
                )
                continue
            # Each is read like a file of its own.
            budget.spend(written[aim])
            (self.target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.target / aim, self.target / name)
            except OSError:
                # Not every disk has them.
                shutil.copyfile(self.target / aim, self.target / name)
            self.files[name] = written[aim]

    def _refuse(self, entry: Entry, why: str) -> None:
        self.problems.append(f"{entry.name[:200]!r}: {why}")
