"""What the machine's disk refuses, in the user's terms: a full one, one without permission, one that is read-only.

Known by the errors that steps and their libraries end with. Not covered: files that are damaged, whose readers know
what should be in them.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile

from components.errors import UserError
from components.progress import size

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

#: How Rust's libraries (safetensors) tell what the system said.
_OF_RUST = re.compile(r"\(os error (\d+)\)")


def refusal(error: BaseException) -> UserError | None:
    """The message for an exception that the disk is the reason of; None for another one.

    The exceptions that led to it are looked at too: torch reports a file that could not be written as a file that is
    shorter than it should be.
    """
    found: BaseException | None = error
    while found is not None:
        number, name = _number(found), getattr(found, "filename", None)
        if number in _FULL:
            return _full(number, name)
        # Without a name it is no file that was refused.
        if number in _FORBIDDEN and name is not None:
            return UserError(
                f"{name}: {os.strerror(number)}; let user {os.getuid()}, who runs this, read and write there, or give "
                "another place"
            )
        if number == errno.ENOTDIR and name is not None:
            return UserError(f"{name}: {os.strerror(number)}; give another place")
        found = found.__cause__ or found.__context__
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    match = _OF_RUST.search(str(error))
    return int(match[1]) if match else None


def _full(number: int, name: str | None) -> UserError:
    """A full disk; which of two it is, is not known where the system names no file."""
    place = tempfile.gettempdir()
    try:
        disk = os.statvfs(place)
        free = f", where {size(disk.f_bavail * disk.f_frsize)} are free"
    except OSError:
        free = ""
    where = name or f"the outputs, or temporary files (in {place}{free})"
    why = os.strerror(number)
    return UserError(f"{where}: cannot be written ({why}); free some space, or give outputs and TMPDIR a larger disk")
