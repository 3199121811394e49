"""Pushing a folder to the store as the next version of a data set: what is there already is not sent again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.dataset import list_folder
from components.errors import UserError
from components.parallel import parallel
from components.progress import Progress, log, size
from components.storage import MANIFEST, Entry, Manifest, Store, sha256_file, transfer, version_after
from components.storage.uri import key_problem
from components.versions import pushed

_WORKERS = 8


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    version: str
    manifest: Manifest
    new: bool  #: False where the newest version held the same already
    sent: int  #: contents that were not in the store
    sent_bytes: int


def push(store: Store, folder: Path, made_by: Mapping[str, Any]) -> Pushed:
    """Make the files of `folder` the newest version of the data set at `store`.

    Hidden files and what desktops leave behind are no part of it. Killed at any moment, the same call goes on with
    what is missing; until it ends, readers see the version before.

    Args:
        store: ``<store>/datasets/<name>``.
        made_by: kept in the version's manifest.

    Raises:
        UserError: for what `list_folder` refuses, names that no key can have (all of them), a file that changes
            meanwhile, and a place that holds files which were not pushed.
    """
    files = _sound(folder)
    _require_place(store)
    progress = Progress("files read", len(files), unit="file")

    def entry(path: str) -> Entry:
        return Entry(path, (folder / path).stat().st_size, sha256_file(folder / path))

    made = Manifest.of(parallel(entry, files, _WORKERS, progress), made_by)
    present = {info.key: info.bytes for info in store.list("objects/")}
    missing = {e.sha256: e for e in made.files if present.get(pushed.object_key(e.sha256)) != e.bytes}
    _send(store, folder, list(missing.values()))
    sent = len(missing), sum(e.bytes for e in missing.values())
    known = pushed.versions(store)
    if known and known[-1].endswith(made.digest[:12]):
        newest = pushed.manifest(store, known[-1])
        if newest.digest == made.digest:
            return Pushed(known[-1], newest, False, *sent)
    version = version_after(known, made.digest)
    # False only where the same content was pushed in the same second: the same version.
    store.create_bytes(pushed.version_key(version), made.to_json(), "application/json")
    return Pushed(version, made, True, *sent)


def _sound(folder: Path) -> list[str]:
    """The folder's files as relative paths, all of which a manifest can hold."""
    files = [file.path for file in list_folder(folder, "dataset")]
    problems = [f"{folder / f}: its name {problem}; rename it" for f in files if (problem := key_problem(f))]
    problems += [f"{folder / f}: the name {MANIFEST} is the store's own; rename it" for f in files if f == MANIFEST]
    if problems:
        raise UserError(*problems)
    return files


def _require_place(store: Store) -> None:
    if pushed.is_pushed(store):
        return
    if (other := next(store.list(), None)) is not None:
        raise UserError(
            f"{store.uri}: holds files that were not pushed ({other.key}); choose another name, or move them away"
        )
    store.create_bytes(pushed.MARKER, json.dumps({"schema": pushed.SCHEMA}).encode(), "application/json")


def _send(store: Store, folder: Path, entries: list[Entry]) -> None:
    if not entries:
        return
    log(f"sending {len(entries)} files, {size(sum(e.bytes for e in entries))}, to {store.uri}")

    def send(entry: Entry) -> None:
        kind = transfer.content_type(entry.path)
        transfer.send(store, pushed.object_key(entry.sha256), folder / entry.path, entry.sha256, kind=kind)

    parallel(send, entries, _WORKERS, Progress("upload", len(entries), unit="file"))
