"""The user's files, as the steps that read them see them: a local folder, an ``s3://`` prefix, an archive, a version.

Covers the errors of a wrong path, and a local copy of what is no local folder. Not covered: what
the files mean (the crop step's formats), where versions are kept (`components.versions`) and published trees with a
manifest (`components.storage`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components import archives
from components.archives.unpack import unpack
from components.errors import UserError
from components.leftovers import counts
from components.parallel import parallel
from components.printable import is_text
from components.progress import Progress, log, size
from components.storage import MANIFEST, Store, digest_of
from components.storage.uri import key_problem, parse_uri
from components.versions import dvc_location
from components.versions.find import version_of
from components.versions.pushed import without_version


@dataclass(frozen=True, order=True)
class File:
    """One file of a data set."""

    path: str  #: relative to the data set, parts joined by ``/``
    bytes: int
    etag: str = ""  #: the store's tag of the content; empty for a local file


@dataclass(frozen=True)
class Opened:
    """A data set as a local folder."""

    root: Path
    version: str = ""  #: what people call its version; empty where it has none
    #: of what is in `root`, where that is known without reading it: of a version, of a prefix (`listing_revision`)
    revision: str = ""


def is_remote(location: str) -> bool:
    """Whether `location` is a URI rather than a local path."""
    return "://" in location


def is_archive(location: str) -> bool:
    """Whether `location` is an archive's rather than a folder's or a prefix's: by its name, and by what is there."""
    if dvc_location.is_dvc(location):
        return False
    if is_remote(location):
        return not location.endswith("/") and archives.stem_of(parse_uri(location)[1].rpartition("/")[2]) is not None
    path = Path(location).expanduser()
    return archives.stem_of(path.name) is not None and path.is_file()


def name_of(location: str) -> str:
    """The last part of a path or URI, an archive's without its ending: what people call the data set."""
    if dvc_location.is_dvc(location):
        return dvc_location.parse(location).name
    location = without_version(location)
    last = (
        PurePosixPath(location.rstrip("/").split("://", 1)[-1]).name
        if is_remote(location)
        else (Path(location).expanduser().resolve().name)
    )
    return (is_archive(location) and archives.stem_of(last)) or last


def local_folder(location: str, what: str) -> Path:
    """The folder at a local path; `what` ("dataset", "base_model") leads every message.

    Raises:
        UserError: when nothing is there, when it is a file, or when it may not be read.
    """
    if not location.strip():
        raise UserError(f"{what}: empty; give a folder or an s3://bucket/prefix")
    path = Path(location).expanduser().absolute()
    try:
        if not path.exists():
            raise UserError(
                f"{what}: {path} does not exist; give an existing folder or an s3://bucket/prefix "
                "(inside a container only mounted folders are seen)"
            )
        if not path.is_dir():
            archive = f", or an archive of it ({', '.join(archives.SUFFIXES)})" if what == "dataset" else ""
            raise UserError(f"{what}: {path} is a file; give the folder that holds it{archive}")
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError
    except PermissionError:
        raise UserError(f"{what}: no permission to read {path}; allow it with chmod or run as its owner") from None
    return path


def list_folder(folder: Path, what: str) -> list[File]:
    """Every file below `folder` that counts, sorted by path. Links are followed, once each.

    Raises:
        UserError: for an empty folder, unreadable folders and files, broken links (all of them).
    """
    problems: list[str] = []
    found: list[File] = []
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        problems.append(f"{what}: {error.filename} cannot be read ({error.strerror}); allow it or move it away")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if counts(name))
        for name in sorted(names):
            if not counts(name):
                continue
            path = Path(parent) / name
            if not path.is_file():
                problems.append(f"{what}: {path} is not a file that can be read (a broken link?); remove it")
            elif not is_text(name):
                problems.append(f"{what}: {parent}/{name!a}: the name is no valid UTF-8; rename it")
            elif not os.access(path, os.R_OK):
                problems.append(f"{what}: no permission to read {path}; allow it with chmod")
            else:
                found.append(File(path.relative_to(folder).as_posix(), path.stat().st_size))
    if problems:
        raise UserError(*problems)
    if not found:
        raise UserError(f"{what}: {folder} holds no files (hidden ones do not count); put the data there")
    return sorted(found)


def list_store(store: Store, what: str) -> list[File]:
    """Every object below the store's prefix that counts, sorted by path.

    Raises:
        UserError: when there is none.
    """
    # A published tree's manifest says when it was made, which is no content.
    found = sorted(
        File(o.key, o.bytes, o.etag)
        for o in store.list()
        if counts(o.key) and not o.key.endswith("/") and o.key != MANIFEST
    )
    if not found:
        raise UserError(f"{what}: {store.uri} holds no objects; check the bucket and the prefix, or upload the data")
    return found


def listing_revision(files: Sequence[File]) -> str:
    """Digest of what a store lists: keys, tags and sizes. Copies uploaded in parts of other sizes differ."""
    return digest_of([[f.path, f.etag, f.bytes] for f in files])


@contextmanager
def local_copy(location: str, what: str, workers: int = 8, revision: str = "") -> Iterator[Opened]:
    """The data set as a local folder: itself, or a temporary copy of what is in a store or in an archive.

    The copy lies below ``TMPDIR`` and is removed at the end.

    Args:
        revision: as for `components.versions.find.version_of`.

    Raises:
        UserError: as `local_folder`, `list_store` and `version_of`; for an archive as `components.archives.unpack`.
    """
    if is_archive(location):
        with _unpacked(location, what) as root:
            yield Opened(root)
        return
    if not is_remote(location):
        yield Opened(local_folder(location, what))
        return
    if (version := version_of(location, revision)) is not None:
        log(f"downloading {version.files} files of {location}, version {version.name}")
        with tempfile.TemporaryDirectory(prefix="dataset-") as temporary:
            version.fetch(Path(temporary))
            yield Opened(Path(temporary), version.name, version.revision)
        return
    store = Store.from_env(location)
    files = list_store(store, what)
    if unsafe := [f"{f.path!r} {problem}" for f in files if (problem := key_problem(f.path))]:
        raise UserError(*(f"{what}: {store.uri}: the key {named}; rename the object" for named in unsafe))
    log(f"downloading {len(files)} files, {size(sum(f.bytes for f in files))}, from {store.uri}")
    with tempfile.TemporaryDirectory(prefix="dataset-") as temporary:
        root = Path(temporary)
        progress = Progress("download", len(files), unit="file")

        def fetch(file: File) -> None:
            target = root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(file.path, target)

        parallel(fetch, files, workers, progress)
        yield Opened(root, revision=listing_revision(files))


@contextmanager
def _unpacked(location: str, what: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dataset-") as temporary:
        archive = Path(location).expanduser().absolute()
        if is_remote(location):
            folder, _, name = location.rpartition("/")
            archive = Path(temporary) / "archive" / name
            log(f"downloading {location}")
            Store.from_env(folder).download_file(name, archive)
        elif not os.access(archive, os.R_OK):
            raise UserError(f"{what}: no permission to read {archive}; allow it with chmod or run as its owner")
        root = Path(temporary) / "files"
        root.mkdir()
        shown = location if is_remote(location) else str(archive)
        log(f"unpacking {shown}, {size(archive.stat().st_size)}")
        count = unpack(archive, root, f"{what}: {shown}", counts)
        log(f"unpacked {count} files")
        yield root
