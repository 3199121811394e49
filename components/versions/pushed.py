"""Data sets in the store as pushed: each content once, and a manifest a version.

    <store>/datasets/<name>/DATASET.json              says that this is one
                           /objects/ab/cdef…          files by the SHA-256 of their bytes
                           /versions/<version>.json   a manifest: path, bytes and SHA-256 of every file

A version exists once its manifest does, which is written last; it is never changed. Versions are named
``YYYYMMDDTHHMMSSZ-<first 12 digits of the content's digest>``, so the newest is the last by name and two
who push at the same time do not take the same name. The digest is a folder's revision too: a folder and
what was pushed of it are the same to the steps' cache. A location is ``s3://…/datasets/<name>`` for the
newest version, ``…/<name>@<version>`` for a given one.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from components.documents import parse_json
from components.errors import UserError
from components.parallel import parallel
from components.progress import Progress
from components.storage import VERSION, Entry, Manifest, Store, transfer
from components.versions.version import Version

MARKER = "DATASET.json"
SCHEMA = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


def object_key(sha256: str) -> str:
    """Where the content with this digest lies."""
    return f"objects/{sha256[:2]}/{sha256[2:]}"


def version_key(version: str) -> str:
    """Where a version's manifest lies."""
    return f"versions/{version}.json"


def without_version(location: str) -> str:
    """``s3://…/screws`` of ``s3://…/screws@<version>``; other locations as they are."""
    place, at, version = location.rstrip("/").rpartition("@")
    return place if at and VERSION.fullmatch(version) else location


def at_place(location: str, version: str) -> str:
    """The location that names `version` too: where it is a pushed one that `location` leaves open."""
    if "://" in location and VERSION.fullmatch(version) and without_version(location) == location:
        return f"{location.rstrip('/')}@{version}"
    return location


def is_pushed(store: Store) -> bool:
    """Whether a pushed data set is at this place, perhaps without a complete version.

    Raises:
        UserError: where it is of another program version, or damaged.
    """
    data = store.get_bytes(MARKER)
    if data is None:
        return False
    try:
        schema = parse_json(data)["schema"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{store.uri_of(MARKER)}: damaged; delete it and push the data set again") from None
    if schema != SCHEMA:
        raise UserError(
            f"{store.uri_of(MARKER)}: schema {schema!r}, known here: {SCHEMA}; use the program that pushed the data set"
        )
    return True


def versions(store: Store) -> list[str]:
    """Names of the complete versions, the oldest first."""
    names = (info.key.removeprefix("versions/").removesuffix(".json") for info in store.list("versions/"))
    return sorted(name for name in names if VERSION.fullmatch(name))


def manifest(store: Store, version: str) -> Manifest:
    """What a version holds.

    Raises:
        UserError: where there is no such version, or its manifest is damaged.
    """
    data = store.get_bytes(version_key(version)) if VERSION.fullmatch(version) else None
    if data is None:
        known = versions(store)
        there = f"versions: {', '.join(known[-10:])}" if known else "no version is complete; push it again"
        raise UserError(f"{store.uri}: no version {version!r}; {there}")
    return Manifest.from_json(data, store.uri_of(version_key(version)))


def at_version(location: str, revision: str = "") -> Version | None:
    """The version that a location names; None where no pushed data set is there.

    Args:
        revision: where it is a digest, the version with this content is taken where the location names none: what
            was newest when a run began, not what has been pushed since.

    Raises:
        UserError: for a version or digest that is not there, and where no version is complete.
    """
    place, named = location.rstrip("/"), ""
    base, at, last = place.rpartition("@")
    if at and "/" not in last and base.count("/") > 2:
        place, named = base, last
    store = Store.from_env(place)
    if not store.prefix or not is_pushed(store):
        return None
    name = named or _unnamed(store, revision)
    found = manifest(store, name)
    if _SHA256.fullmatch(revision) and found.digest != revision:
        raise UserError(f"{store.uri}: version {name} has the revision {found.digest[:12]}, not {revision[:12]}")
    return Version(name, found.digest, len(found.files), found.total_bytes, partial(_fetch, store, found))


def _unnamed(store: Store, revision: str) -> str:
    known = versions(store)
    if not known:
        raise UserError(f"{store.uri}: no version is complete; push the data set again, it goes on where it was")
    if not _SHA256.fullmatch(revision):
        return known[-1]
    same = [name for name in known if name.endswith(f"-{revision[:12]}")]
    if not same:
        raise UserError(f"{store.uri}: no version has the revision {revision[:12]}; push those files again")
    return same[-1]


def _fetch(store: Store, wanted: Manifest, folder: Path) -> None:
    def fetch(entry: Entry) -> None:
        transfer.fetch(store, object_key(entry.sha256), folder / entry.path, entry.sha256, entry.bytes)

    parallel(fetch, wanted.files, 8, Progress("download", len(wanted.files), unit="file"))
