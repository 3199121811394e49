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

    Of a full disk, the exceptions that led to it are looked at too: torch reports a file that could not be written as
    one that is shorter than it should be.
    """
    if isinstance(error, OSError) and error.filename is not None:
        # Without a name it is no file that was refused.
        if error.errno in _FORBIDDEN:
            return UserError(
                f"{error.filename}: {error.strerror}; let user {os.getuid()}, who runs this, read and write there, or "
                "give another place"
            )
        if error.errno == errno.ENOTDIR:
            return UserError(f"{error.filename}: {error.strerror}; give another place")
    found: BaseException | None = error
    while found is not None:
        if (number := _number(found)) in _FULL:
            return _full(os.strerror(number), getattr(found, "filename", None))
        found = found.__cause__ or found.__context__
    return None


def _number(error: BaseException) -> int:
    """What the system said, by its number; 0 where it said nothing."""
    if isinstance(error, OSError):
        return error.errno or 0
    match = _OF_RUST.search(str(error))
    return int(match[1]) if match else 0


def _full(why: str, name: str | None) -> UserError:
    """A full disk; which of two it is, is not known where the system names no file."""
    place = tempfile.gettempdir()
    try:
        disk = os.statvfs(place)
        free = f", where {size(disk.f_bavail * disk.f_frsize)} are free"
    except OSError:
        free = ""
    where = name or f"the outputs, or temporary files (in {place}{free})"
    return UserError(f"{where}: cannot be written ({why}); free some space, or give outputs and TMPDIR a larger disk")
