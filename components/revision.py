"""Which revision a data set is at: what snapshot gives out, and what crop holds its copy against.

Covers digests of folders, archives and ``s3://`` prefixes; versions bring their own (`components.versions`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from components.dataset import (
    File,
    Opened,
    is_archive,
    is_remote,
    list_folder,
    list_store,
    listing_revision,
    local_copy,
    local_folder,
)
from components.errors import UserError
from components.parallel import parallel
from components.progress import Progress, log, size
from components.storage import Store, digest_of, sha256_file
from components.versions.find import version_of

_SHA256 = re.compile(r"[0-9a-f]{64}")


def dataset_revision(dataset: str, workers: int) -> str:
    """Digest of the data set: of paths and bytes for a folder; of keys, tags and sizes for a prefix.

    A folder and its copy in a store therefore differ, as do copies uploaded in parts of other sizes. An archive, here
    or in a store, has the digest of the folder that was packed, however it was packed; so has what was pushed.

    Raises:
        UserError: where there is no data set, or it cannot be read.
        Unavailable: the store does not answer.
    """
    if is_archive(dataset):
        with local_copy(dataset, "dataset", workers) as opened:
            files = list_folder(opened.root, "dataset")
            revision = content_revision(opened.root, files, "dataset", workers)
    elif (version := version_of(dataset)) is not None:
        of_size = "" if version.bytes is None else f", {size(version.bytes)}"
        log(f"dataset {dataset}: version {version.name}, {version.files} files{of_size}, {version.revision[:12]}")
        return version.revision
    elif is_remote(dataset):
        files = list_store(Store.from_env(dataset), "dataset")
        revision = listing_revision(files)
    else:
        folder = local_folder(dataset, "dataset")
        files = list_folder(folder, "dataset")
        revision = content_revision(folder, files, "dataset", workers)
    say("dataset", dataset, files, revision)
    return revision


def revision_read(opened: Opened, files: Sequence[File], asked: str, workers: int) -> str:
    """The revision of the copy that was opened to read the revision `asked`.

    It is another one where the data moved on: a folder, a prefix and an archive hold what they hold now, a branch in
    git what it has come to. A log line says so.

    Args:
        files: all of the copy, as `list_folder` gives them.
        asked: as snapshot gave it; anything that is no SHA-256, which a person may write, is taken as it is.
    """
    if not _SHA256.fullmatch(asked):
        return asked
    found = opened.revision or content_revision(opened.root, files, "dataset", workers)
    if found != asked:
        log(
            f"the data set has changed: asked for was revision {asked[:12]}, there is {found[:12]}, which is used and "
            "recorded; a pushed data set keeps its versions"
        )
    return found


def content_revision(folder: Path, files: Sequence[File], what: str, workers: int) -> str:
    """Digest of the paths and bytes of `files` below `folder`; `what` leads every message.

    Raises:
        UserError: for a file that cannot be read.
    """
    progress = Progress(f"{what}: files read", len(files), unit="file")
    try:
        digests = parallel(lambda f: sha256_file(folder / f.path), files, workers, progress)
    except OSError as error:
        raise UserError(
            f"{what}: {error.filename} cannot be read ({error.strerror}); was it moved while it was read? run again"
        ) from None
    return digest_of([[f.path, digest] for f, digest in zip(files, digests)])


def say(what: str, location: str, files: Sequence[File], revision: str) -> None:
    """Log what was found at a location, and its revision."""
    total = size(sum(f.bytes for f in files))
    log(f"{what} {location}: {len(files)} files, {total}, revision {revision[:12]}")
