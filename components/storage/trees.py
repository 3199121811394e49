"""Folders published whole and fetched whole.

A tree's files lie directly below its place; MANIFEST.json is written last, where none is. Without it the
tree does not exist for readers, so half an upload is never read and the next attempt goes on from it.

Two writers at one place never mix: an object is created, never replaced, so where the content differs all
but one of them stop, perhaps all of them. What a writer with other content left behind is in the way until it
is deleted, since whether that writer lives cannot be known from here: a place that several attempts may
write differently has a part of its own for each attempt. (A store without conditional writes is looked at
again before the commit instead, which leaves a moment.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.errors import UserError
from components.parallel import parallel
from components.progress import Progress
from components.storage import transfer
from components.storage.connection import Exists, Unsupported
from components.storage.manifest import MANIFEST, Entry, Manifest, sha256_file
from components.storage.uri import key_problem

if TYPE_CHECKING:
    from components.storage.store import ObjectInfo, Store

T = TypeVar("T")
R = TypeVar("R")

_WORKERS = 4


class Conflict(UserError):
    """Other content is at the place where a tree was to be published."""


def files_below(folder: Path) -> dict[str, Path]:
    """Path in the tree → file, for every file of `folder`, hidden ones too.

    Raises:
        UserError: for all of: no folder, nothing in it, what cannot be read, names that no key can have,
            links that leave it, links to folders.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; give the one that holds the files to publish")
    root = folder.resolve()
    files: dict[str, Path] = {}
    problems: list[str] = []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror}); allow it or remove it")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        for name in sorted(folders):
            if (Path(parent) / name).is_symlink():
                problems.append(f"{Path(parent) / name}: a link to a folder; put the folder in its place")
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                problems.append(f"{path}: links to what lies outside {folder}; put the file in its place")
            elif not path.is_file():
                problems.append(f"{path}: is not a file that can be read; remove it")
            else:
                files[path.relative_to(folder).as_posix()] = path
    if problems:
        raise UserError(*problems)
    if not files:
        raise UserError(f"{folder}: holds no files to publish")
    return files


def put_files(store: Store, files: Mapping[str, Path], made_by: Mapping[str, Any] | None) -> Manifest:
    """Publish `files` (path in the tree → file) at `store`; the manifest that is there in the end.

    Objects of the same content are not sent again, and a tree of the same content is left as it is.

    Raises:
        Conflict: where other content is published, or being published, at the same place.
        UserError: for paths that no key can have, files that cannot be read, and files that change meanwhile.
    """
    problems = [f"{path}: its name {problem}; rename it" for path in files if (problem := key_problem(path))]
    if MANIFEST in files:
        problems.append(f"{files[MANIFEST]}: the name {MANIFEST} is the store's own; rename it")
    if problems:
        raise UserError(*problems)
    manifest = Manifest.of(_parallel(lambda item: _entry(*item), list(files.items())), made_by)
    committed = store.manifest()
    if committed is not None:
        return _agreed(store, committed, manifest)
    present = {info.key: info for info in store.list()}
    meter = _Meter(f"upload {store.uri}", manifest.total_bytes)

    def put(entry: Entry) -> str:
        return _put(store, entry, files[entry.path], present.get(entry.path), meter.moved)

    tags = dict(zip((entry.path for entry in manifest.files), _parallel(put, manifest.files)))
    _check_unmixed(store, manifest, tags)
    meter.close()
    if store.create_bytes(MANIFEST, manifest.to_json(), "application/json"):
        return manifest
    return _agreed(store, store.manifest(), manifest)


def get_tree(store: Store, dest: Path, only: Callable[[str], bool] | None) -> Manifest:
    """Fetch the tree at `store` below `dest`: every path, or those for which `only` says True.

    Files that are there already with the right digest are not fetched again; others of the same name
    are replaced, each when all of it is there; further files are left alone.

    Returns:
        The whole manifest, whatever `only` chose.

    Raises:
        UserError: where no tree is, where content is missing or damaged, where `dest` cannot be written
            or leads elsewhere through a link.
    """
    manifest = store.manifest()
    if manifest is None:
        raise UserError(
            f"{store.uri}: nothing is published there (no {MANIFEST}); correct the place, or let the upload finish"
        )
    wanted = [entry for entry in manifest.files if only is None or only(entry.path)]
    meter = _Meter(f"download {store.uri}", sum(entry.bytes for entry in wanted))

    def get(entry: Entry) -> None:
        path = dest / entry.path
        if not path.parent.resolve().is_relative_to(dest.resolve()):
            raise UserError(f"{path}: a link leads out of {dest}; remove it or give an empty folder")
        if path.is_file() and path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256:
            meter.moved(entry.bytes)
        else:
            transfer.fetch(store, entry.path, path, entry.sha256, entry.bytes, meter.moved)

    _parallel(get, wanted)
    meter.close()
    return manifest


def _entry(path: str, file: Path) -> Entry:
    try:
        return Entry(path, file.stat().st_size, sha256_file(file))
    except PermissionError:
        raise UserError(f"{file}: no permission to read it; allow it with chmod") from None


def _put(store: Store, entry: Entry, file: Path, present: ObjectInfo | None, moved: Callable[[int], None]) -> str:
    """Have the object there with this content; its etag, "" where that is not known."""
    if present is None:
        try:
            return transfer.send(store, entry.path, file, entry.sha256, create=True, moved=moved)
        except Unsupported:
            return transfer.send(store, entry.path, file, entry.sha256, moved=moved)
        except Exists:
            # Another writer's, or our own where the answer was lost on its way.
            pass
    if store.digest(entry.path) != entry.sha256:
        raise _conflict(store)
    moved(entry.bytes)
    return present.etag if present is not None else ""


def _check_unmixed(store: Store, manifest: Manifest, tags: Mapping[str, str]) -> None:
    """Refuse to commit a tree in which another writer has meanwhile put content of its own."""
    now = {info.key: info.etag for info in store.list()}
    for entry in manifest.files:
        same = entry.path in now and now[entry.path] == tags[entry.path]
        if not same and store.digest(entry.path) != entry.sha256:
            raise _conflict(store)


def _agreed(store: Store, committed: Manifest | None, ours: Manifest) -> Manifest:
    if committed is None or committed.digest != ours.digest:
        raise _conflict(store)
    return committed


def _conflict(store: Store) -> Conflict:
    return Conflict(
        f"{store.uri}: other content is published there, or is being published, or was left by a run that ended "
        "early; it stays. Publish at another place, or delete what is there first"
    )


def _parallel(work: Callable[[T], R], items: list[T] | tuple[T, ...]) -> list[R]:
    return parallel(work, items, _WORKERS, Progress("", len(items), write=lambda line: None))


class _Meter:
    """Bytes moved by several threads; says something only where it takes long enough to be asked about."""

    def __init__(self, what: str, total: int) -> None:
        self._progress = Progress(what, total // 1_000_000, unit="MB")
        self._lock = threading.Lock()
        self._moved = 0
        self._spoke = False

    def moved(self, count: int) -> None:
        with self._lock:
            self._moved += count
            if self._progress.due():
                self._progress.update(self._moved // 1_000_000)
                self._spoke = True

    def close(self) -> None:
        if self._spoke:
            self._progress.update(self._progress.total)
