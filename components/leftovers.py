"""Files that are no part of a data set, wherever it lies."""

from __future__ import annotations

_LEFT_BY_DESKTOPS = {"__macosx", "thumbs.db", "desktop.ini"}


def counts(path: str) -> bool:
    """Whether a file at this relative path belongs to the data set.

    Hidden files and folders do not, nor does what desktops leave behind (``__MACOSX``, ``Thumbs.db``).
    """
    return not any(p.startswith(".") or p.lower() in _LEFT_BY_DESKTOPS for p in path.split("/"))
