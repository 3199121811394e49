"""One version of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Version:
    """What a data set holds at one version, and how its files are had."""

    name: str  #: what people call it: a pushed version's name, a git revision with its commit
    revision: str  #: SHA-256, in hexadecimal: equal for equal paths and contents
    files: int
    bytes: int | None  #: of all files; None where that is not known without them
    fetch: Callable[[Path], None]  #: writes all files below a folder; raises `UserError` where one is damaged or gone
