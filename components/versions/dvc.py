"""Data sets that DVC tracks in a git repository, read from its S3 remote without DVC itself.

A commit says which contents belong to a path (`dvc_files`), a folder's listing in the remote says which files, and
each content lies at ``<remote>/files/md5/ab/cdef…``. What git itself holds below the path, annotations often, belongs
to the data set as well. The remote is reached as every store is, by the STORE_* variables.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from components.documents import parse_json
from components.errors import UserError
from components.leftovers import counts
from components.parallel import parallel
from components.progress import Progress, log
from components.storage import Store, digest_of, transfer
from components.storage.uri import key_problem
from components.versions import dvc_files, git
from components.versions.dvc_files import Output
from components.versions.dvc_location import DvcLocation, parse
from components.versions.version import Version

_CONFIG = ".dvc/config"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _File:
    path: str  #: in the data set
    md5: str = ""  #: of its bytes, where DVC tracks it
    remote: Store | None = None
    in_git: str = ""  #: path in the repository, where git holds it
    blob: str = ""  #: git's id of its content

    @property
    def identity(self) -> str:
        return f"md5:{self.md5}" if self.md5 else f"git:{self.blob}"


def at_revision(location: str) -> Version:
    """The data set at a `dvc_location`, whose revision is of paths and contents, not of the commit.

    Raises:
        UserError: for a wrong location or revision, what DVC does not track and what its remote does not hold.
        Unavailable: the repository or the store does not answer.
    """
    wanted = parse(location)
    with git.fetched(wanted.repository, wanted.rev) as commit:
        name = f"commit {commit.id}" if commit.id.startswith(wanted.rev) else f"{wanted.rev}, commit {commit.id}"
        files = _files(wanted, commit)
    revision = digest_of([[file.path, file.identity] for file in files])
    return Version(name, revision, len(files), None, partial(_fetch, wanted.repository, commit.id, files))


def _files(wanted: DvcLocation, commit: git.Commit) -> list[_File]:
    """All files of the data set, sorted by path."""
    place = f"{wanted.repository} at {wanted.rev}"
    # An output that is not cached, such as a metrics file, is in git.
    held = set(commit.files) | {above for path in commit.files for above in _folders(path)}
    outputs = [output for output in dvc_files.outputs(commit.files, commit.read) if output.path not in held]
    files: dict[str, _File] = {}
    for path, blob in commit.files.items():
        inside = _below(path, wanted.path)
        if inside and counts(inside) and not dvc_files.is_dvc_file(path):
            files[inside] = _File(inside, in_git=path, blob=blob)
    tracked = [output for output in outputs if _related(output.path, wanted.path)]
    for output in tracked:
        files |= {file.path: file for file in _of_output(output, wanted, commit, place) if counts(file.path)}
    if not tracked:
        known = ", ".join(output.path for output in outputs[:10]) or "nothing"
        raise UserError(f"dataset: {place}: DVC tracks nothing at path={wanted.path or '.'}; it tracks {known}")
    if not files:
        raise UserError(f"dataset: {place}: no files at path={wanted.path or '.'}; check the path")
    if unsound := [f"{path!r} {problem}" for path in files if (problem := key_problem(path))]:
        raise UserError(*(f"dataset: {place}: the name {named}; rename the file" for named in unsound))
    return [files[path] for path in sorted(files)]


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _below(path: str, folder: str) -> str:
    """`path` relative to `folder`; empty where it is not below."""
    return path if not folder else path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""


def _related(output: str, path: str) -> bool:
    return output == path or bool(_below(output, path)) or bool(_below(path, output))


def _of_output(output: Output, wanted: DvcLocation, commit: git.Commit, place: str) -> list[_File]:
    if not output.md5:
        raise UserError(
            f"dataset: {place}: {output.source}: {output.path} has no MD5 of DVC 3; track it again with dvc add, or "
            "dvc commit (DVC 2: dvc cache migrate --dvc-files), and push"
        )
    if not output.md5.endswith(".dir"):
        if output.path == wanted.path:
            raise UserError(
                f"dataset: {place}: path={wanted.path} is one file; track the folder of images and annotations"
            )
        inside = _below(output.path, wanted.path)
        return [_File(inside, output.md5, _remote(wanted, output, commit))] if inside else []
    remote = _remote(wanted, output, commit)
    listing = _listing(remote, output, place)
    files = []
    for relative, md5 in listing.items():
        path = posixpath.join(output.path, relative)
        inside = _below(path, wanted.path)
        if inside:
            files.append(_File(inside, md5, remote))
    return files


def _remote(wanted: DvcLocation, output: Output, commit: git.Commit) -> Store:
    above = output.source.split("/")[:-1]
    for depth in range(len(above), -1, -1):
        config = "/".join([*above[:depth], _CONFIG])
        if config in commit.files:
            break
    else:
        raise UserError(f"dataset: {wanted.repository} at {wanted.rev}: no {_CONFIG} above {output.source}; dvc init")
    place = f"dataset: {wanted.repository} at {wanted.rev}: {config}"
    remote = dvc_files.remote(commit.read(config).decode(errors="replace"), wanted.remote or output.remote, place)
    store = Store.from_env(remote.url)
    if remote.endpoint and remote.endpoint.rstrip("/") != store.connection.endpoint:
        # Not followed: a repository must not decide where requests signed with the user's keys go.
        log(f"{place} names {remote.endpoint}; asked is {store.connection.endpoint}, as STORE_ENDPOINT_URL says")
    return store


def _key(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _absent(remote: Store, what: str) -> UserError:
    return UserError(
        f"dataset: {remote.uri}: does not hold {what}; send it with dvc push, and check that STORE_ENDPOINT_URL is the "
        "store of this DVC remote"
    )


def _listing(remote: Store, output: Output, place: str) -> dict[str, str]:
    """Relative path → MD5 of a tracked folder's files."""
    data = remote.get_bytes(_key(output.md5))
    if data is None:
        raise _absent(remote, f"the listing of {output.path}")
    damaged = UserError(f"dataset: {remote.uri_of(_key(output.md5))}: damaged; delete it and send it with dvc push")
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != output.md5.removesuffix(".dir"):
        raise damaged
    try:
        listing = {str(entry["relpath"]): str(entry["md5"]) for entry in parse_json(data)}
    except (ValueError, TypeError, KeyError):
        raise damaged from None
    wrong = [f"{path!r}: {problem}" for path in listing if (problem := key_problem(path))]
    wrong += [f"{path!r}: no MD5" for path, md5 in listing.items() if not dvc_files.MD5.fullmatch(md5)]
    if wrong:
        raise UserError(
            *(f"dataset: {place}: {output.path}: {problem}; rename it and add it again" for problem in wrong)
        )
    return listing


def _fetch(repository: str, commit: str, files: list[_File], folder: Path) -> None:
    in_git = [file for file in files if file.in_git]
    if in_git:
        with git.fetched(repository, commit) as again:
            for file in in_git:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.path).write_bytes(again.read(file.in_git))
    tracked = [file for file in files if file.md5]
    parallel(lambda file: _download(file, folder), tracked, 8, Progress("download", len(tracked), unit="file"))


def _download(file: _File, folder: Path) -> None:
    assert file.remote is not None
    target = folder / file.path
    try:
        transfer.fetch(file.remote, _key(file.md5), target)
    except UserError:
        if not file.remote.exists(_key(file.md5)):
            raise _absent(file.remote, file.path) from None
        raise
    digest = hashlib.md5(usedforsecurity=False)
    with target.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.md5:
        target.unlink()
        raise UserError(
            f"dataset: {file.remote.uri_of(_key(file.md5))}: damaged, not what {file.path} was; delete it and send it "
            "with dvc push"
        )
