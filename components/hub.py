"""Repositories of the Hugging Face hub: ``hf://owner/name@revision`` resolved to a commit, and fetched.

What resolves needs no more than urllib3, so that a light step can; what fetches is huggingface_hub, with its cache. Its
variables are read here too: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``. Not
covered: data sets, pushing to the hub.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import urllib3

from components.credentials import checked
from components.documents import parse_json
from components.errors import Unavailable, UserError
from components.progress import log
from components.storage import sha256_file

SCHEME = "hf://"

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w.][\w./-]*")
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_RETRIES = 3
_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)


def is_name(text: str) -> bool:
    """Whether `text` reads as a repository: ``owner/name``."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Repository:
    """A repository at a revision: a branch, a tag or a commit."""

    name: str  #: ``owner/name``
    revision: str = "main"

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}@{self.revision}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which means the same for ever."""
        return is_commit(self.revision)


@dataclass(frozen=True)
class Listing:
    """What the hub says of a repository at a revision."""

    commit: str
    files: tuple[str, ...]


def parse(place: str) -> Repository:
    """The repository that ``hf://owner/name`` or ``hf://owner/name@revision`` names.

    Raises:
        UserError: for anything else.
    """
    name, at, revision = place.removeprefix(SCHEME).partition("@")
    sound = _NAME.fullmatch(name) and (not at or (_REVISION.fullmatch(revision) and ".." not in revision))
    if not place.startswith(SCHEME) or not sound:
        raise UserError(f"{place}: names no repository of the hub; write hf://owner/name@revision")
    return Repository(name, revision or "main")


def is_commit(revision: str) -> bool:
    """Whether `revision` is a whole commit id, rather than a branch or a tag."""
    return _COMMIT.fullmatch(revision) is not None


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def look(repository: Repository) -> Listing:
    """Ask the hub for the commit that a revision stands for, and the names of its files.

    Raises:
        UserError: where there is no such repository or revision, or this token may not read it.
        Unavailable: the hub does not answer.
    """
    revision = quote(repository.revision, safe="")
    answer = _answered(repository, "GET", f"api/models/{repository.name}/revision/{revision}")
    try:
        found = parse_json(answer)
        listing = Listing(found["sha"], tuple(entry["rfilename"] for entry in found["siblings"]))
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"{repository}: what answers at {_endpoint()} is no hub; try again, or set HF_ENDPOINT"
        ) from None
    weights = [file for file in listing.files if file.endswith(".safetensors")]
    if found.get("gated") and weights:
        # Anyone may list a gated repository; whether this token may read it shows with a file.
        _answered(repository, "HEAD", f"{repository.name}/resolve/{listing.commit}/{weights[0]}")
    return listing


def cached_commit(repository: Repository) -> str:
    """The commit that the cache knows a revision by, without network.

    Raises:
        UserError: where it knows none.
    """
    if repository.pinned:
        return repository.revision
    ref = _cache() / f"models--{repository.name.replace('/', '--')}" / "refs" / repository.revision
    commit = ref.read_text(encoding="ascii").strip() if ref.is_file() else ""
    if not is_commit(commit):
        raise _not_cached(repository)
    return commit


def fetch(repository: Repository, patterns: Sequence[str], spare: Path) -> Path:
    """The folder of a repository's files that match one of `patterns`: from the cache, or downloaded into it.

    Args:
        spare: takes the cache's place where that cannot be written, as on a read-only root file system.

    Raises:
        UserError: as `look`; where it is not in the cache and ``HF_HUB_OFFLINE`` is set; where there is no space.
        Unavailable: the hub does not answer.
    """
    import httpx
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    log(f"{repository}: fetching what is not in the cache")
    try:
        return Path(
            snapshot_download(
                repository.name,
                revision=repository.revision,
                allow_patterns=list(patterns),
                cache_dir=_cache() if is_offline() or _writable(_cache()) else spare,
                endpoint=_endpoint(),
                token=_token() or False,
                local_files_only=is_offline(),
            )
        )
    except errors.HfHubHTTPError as error:
        raise _refused(repository, error.response.status_code, error.response.headers) from None
    except errors.LocalEntryNotFoundError:
        raise _not_cached(repository) if is_offline() else _silent(repository) from None
    except httpx.HTTPError:
        raise _silent(repository) from None
    except OSError as error:
        raise UserError(
            f"{repository}: cannot be kept in {_cache()} ({error}); free some space, or set HF_HOME to another folder"
        ) from None


def check(folder: Path) -> None:
    """Hold what `fetch` gave against the digests that the hub has of it: those of large files are SHA-256.

    Raises:
        UserError: naming a file that is not what the hub has.
    """
    for path in sorted(folder.rglob("*")):
        blob = path.resolve()  # the cache names contents by the hub's digest
        if path.is_file() and _SHA256.fullmatch(blob.name) and sha256_file(blob) != blob.name:
            raise UserError(f"{blob}: damaged in the cache of the hub; delete it and run again")


def _answered(repository: Repository, method: str, path: str) -> bytes:
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    retries = urllib3.Retry(
        _RETRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
    )
    with urllib3.PoolManager(timeout=_TIMEOUT, retries=retries, ca_certs=bundle) as pool:
        try:
            response = pool.request(method, f"{_endpoint()}/{path}", headers=headers)
        except urllib3.exceptions.HTTPError:
            # Not from it: its words repeat the whole address.
            raise _silent(repository) from None
    if response.status >= 400:
        raise _refused(repository, response.status, response.headers)
    return response.data


def _refused(repository: Repository, status: int, headers: Mapping[str, Any]) -> Exception:
    """What the hub's refusal means to the user."""
    code = headers.get("X-Error-Code", "")
    page = f"{_endpoint()}/{repository.name}"
    if status == 429 or status >= 500:
        return Unavailable(f"{repository}: the hub answers with status {status}; try again later")
    if code == "GatedRepo" or status == 403:
        return UserError(
            f"{repository}: gated; accept its terms at {page} and give a token of that account in HF_TOKEN, or have "
            "someone with access mirror it into the store (python -m pipelines mirror)"
        )
    if code == "RevisionNotFound":
        return UserError(
            f"{repository}: the repository has no revision {repository.revision!r}; {page}/commits lists commits, "
            "branches and tags"
        )
    if code == "EntryNotFound":
        return UserError(f"{repository}: a file that it lists is not there; choose another revision")
    return UserError(
        f"{repository}: no such repository, or a private one; correct the name, or give a token that may read it in "
        f"HF_TOKEN{' (the one that is set may not)' if _token() else ''}"
    )


def _silent(repository: Repository) -> Unavailable:
    return Unavailable(
        f"{repository}: {_endpoint()} does not answer; try again, set HF_HUB_OFFLINE=1 to use what is in the cache, or "
        "mirror the model into the store where there is a network (python -m pipelines mirror)"
    )


def _not_cached(repository: Repository) -> UserError:
    return UserError(
        f"{repository}: not in the cache {_cache()}, and HF_HUB_OFFLINE is set; unset it, or mirror the model into the "
        "store where there is a network (python -m pipelines mirror)"
    )


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _home() -> Path:
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{general}/huggingface").expanduser()


def _cache() -> Path:
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named).expanduser() if named else _home() / "hub"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _token() -> str:
    """The user's token, "" where there is none. It is sent to the hub and never printed."""
    if named := checked(os.environ.get("HF_TOKEN", ""), "HF_TOKEN"):
        return named
    file = Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token").expanduser()
    try:
        # What is no UTF-8 is no token either, and is refused as one.
        return checked(file.read_text(encoding="utf-8", errors="replace"), str(file))
    except OSError:
        return ""
