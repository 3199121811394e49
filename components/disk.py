"""What the machine's disk refuses, in the user's terms: a full one, one without permission, one that is read-only, a
place that there cannot be.

Known by the errors that steps, commands and their libraries end with. Not covered: files that are damaged, whose
readers know what should be in them.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from components.errors import UserError
from components.progress import size

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
#: What is wrong with the place itself, and what to do about it.
_IMPOSSIBLE = {
    errno.ENOTDIR: "give another place",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ELOOP: "a link there leads back to itself; remove it, or give another place",
}
#: Of a name in a message, characters.
_LONGEST = 200

#: How Rust's libraries (safetensors) tell what the system said.
_OF_RUST = re.compile(r"\(os error (\d+)\)")


def refusal(error: BaseException, places: Sequence[Path] = ()) -> UserError | None:
    """The message for an exception that the disk is the reason of; None for another one.

    Of a full disk, the exceptions that led to it are looked at too: torch reports a file that could not be written as
    one that is shorter than it should be.

    Args:
        places: what outputs are written to, where that is known.
    """
    if isinstance(error, OSError) and error.filename is not None:
        # Without a name it is no file that was refused.
        if error.errno in _FORBIDDEN:
            return UserError(
                f"{error.filename}: {error.strerror}; let user {os.getuid()}, who runs this, read and write there, or "
                "give another place"
            )
        if error.errno in _IMPOSSIBLE:
            name = str(error.filename)
            shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
            return UserError(f"{shown}: {error.strerror}; {_IMPOSSIBLE[error.errno]}")
    found: BaseException | None = error
    while found is not None:
        if (number := _number(found)) in _FULL:
            return _full(os.strerror(number), getattr(found, "filename", None), places)
        found = found.__cause__ or found.__context__
    return None


def space(place: Path) -> tuple[int, int] | None:
    """Bytes that are free on the disk of `place`, which need not be there yet, and all that it has; None where the
    system does not say."""
    for known in (place, *place.absolute().parents):
        try:
            disk = os.statvfs(known)
        except OSError:
            continue
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return None


def _number(error: BaseException) -> int:
    """What the system said, by its number; 0 where it said nothing."""
    if isinstance(error, OSError):
        return error.errno or 0
    match = _OF_RUST.search(str(error))
    return int(match[1]) if match else 0


def _full(why: str, name: str | None, places: Sequence[Path]) -> UserError:
    """A full disk; which of them it is, is not known where the system names no file."""
    outputs = f"the outputs (in {', '.join(map(_room, places))})" if places else "the outputs"
    where = name or f"{outputs}, or temporary files (in {_room(Path(tempfile.gettempdir()))})"
    return UserError(f"{where}: cannot be written ({why}); free some space, or give outputs and TMPDIR a larger disk")


def _room(place: Path) -> str:
    """The place, and what is free on its disk."""
    known = space(place)
    return f"{place}, where {size(known[0])} are free" if known else str(place)
