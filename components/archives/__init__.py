"""Archives of data sets: .zip, .tar and .tar.gz, known by their names; `unpack` opens them."""

from __future__ import annotations

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def stem_of(name: str) -> str | None:
    """``screws`` of ``screws.tar.gz``; None where the name is not an archive's."""
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: -len(suffix)] if suffix and len(name) > len(suffix) else None
