"""MANIFEST.json: what a published tree holds and what made it; and the digests it is made of.

Schema 1 is a JSON object: ``schema`` 1, ``created`` (UTC, ISO 8601), ``made_by`` (an object), ``digest``
(of the content, see `Manifest.digest`) and ``files``, a list of ``path``, ``bytes`` and ``sha256``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from components.documents import parse_json
from components.errors import UserError
from components.storage.uri import key_problem

MANIFEST = "MANIFEST.json"
SCHEMA = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; a mebibyte in memory at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256, in hexadecimal, of plain data as canonical JSON (sorted keys, no spaces, ASCII).

    Raises:
        TypeError, ValueError: for what JSON cannot hold, NaN and infinity included.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, order=True)
class Entry:
    """One file of a tree."""

    path: str  #: below the tree, parts joined by ``/``
    bytes: int
    sha256: str  #: hexadecimal


@dataclass(frozen=True)
class Manifest:
    """What a tree holds, by rising paths."""

    files: tuple[Entry, ...]
    made_by: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""  #: UTC, ISO 8601
    schema: int = SCHEMA

    @classmethod
    def of(cls, files: Iterable[Entry], made_by: Mapping[str, Any] | None) -> Manifest:
        """A manifest made now."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(tuple(sorted(files)), dict(made_by or {}), now)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the sorted paths and digests: equal for equal content, whoever made it and when."""
        return digest_of([[entry.path, entry.sha256] for entry in sorted(self.files)])

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.bytes for entry in self.files)

    def to_json(self) -> bytes:
        """The object as it is stored."""
        data = {
            "schema": self.schema,
            "created": self.created,
            "made_by": dict(self.made_by),
            "digest": self.digest,
            "files": [dataclasses.asdict(entry) for entry in self.files],
        }
        return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, place: str) -> Manifest:
        """Read `to_json`'s bytes, which lie at `place`. Everything in them is checked.

        Raises:
            UserError: for what is not a manifest of this schema, a path that would leave the tree, and
                files that are not those the digest was taken of.
        """
        try:
            content = parse_json(data)
            if not isinstance(content, dict):
                raise TypeError(f"a JSON {type(content).__name__}")
            if content.get("schema") != SCHEMA:
                raise TypeError(f"schema {content.get('schema')!r}, known here: {SCHEMA}")
            manifest = cls(
                tuple(_entry(item) for item in content["files"]), dict(content["made_by"]), str(content["created"])
            )
            _refuse_clashes(manifest.files)
            if manifest.digest != content["digest"]:
                raise ValueError("its files are not those that its digest was taken of")
        except KeyError as error:
            raise UserError(f"{place}: damaged, no {error} in it; publish the tree again") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"{place}: not a manifest that can be used ({error}); publish the tree again") from None
        return manifest


def _entry(item: Any) -> Entry:
    entry = Entry(**item)
    if not isinstance(entry.path, str) or (problem := key_problem(entry.path)):
        raise ValueError(f"path {entry.path!r} {problem if isinstance(entry.path, str) else 'is no text'}")
    if type(entry.bytes) is not int or entry.bytes < 0:
        raise ValueError(f"size {entry.bytes!r} of {entry.path!r}")
    if not isinstance(entry.sha256, str) or not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"digest of {entry.path!r}")
    return entry


def _refuse_clashes(files: tuple[Entry, ...]) -> None:
    paths = {entry.path for entry in files}
    if len(paths) < len(files):
        raise ValueError("a path is listed twice")
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:n]) in paths for n in range(1, len(parts))):
            raise ValueError(f"{path!r} lies below a file")
    if MANIFEST in paths:
        raise ValueError(f"it lists {MANIFEST} itself")
