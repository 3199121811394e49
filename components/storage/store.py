"""`Store`: a place in an object store, and the single objects below it.

Whole folders are published and fetched in `components.storage.trees`, files sent and received in
`components.storage.transfer`.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from components.errors import UserError
from components.storage import transfer
from components.storage.access import Access
from components.storage.connection import FAILURES, Absent, Connection, Exists, Patience, Unsupported
from components.storage.manifest import MANIFEST, Manifest
from components.storage.trees import files_below, get_tree, put_files
from components.storage.uri import checked_key, split_uri

_CONNECTIONS = 16
_DELETED_AT_ONCE = 1000
_GENERATION = "GENERATION"


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of an object."""

    key: str  #: below the store that was listed
    bytes: int
    etag: str  #: the store's tag of the content; not an MD5 for what was sent in parts
    last_modified: datetime | None


class Store:
    """``s3://bucket/prefix`` in any S3. Keys are relative to it.

    Threads may share it; a forked process must make its own. Every method but `at` and `uri_of` uses the
    network and raises `UserError` where the store refuses (credentials, rights, bucket, region) and
    `Unavailable` where it does not answer; a key that is unsound (``..``, absolute, empty parts) is a
    ValueError.
    """

    def __init__(self, connection: Connection, scheme: str, bucket: str, prefix: str) -> None:
        self.connection, self.bucket, self.prefix = connection, bucket, prefix
        self._scheme = scheme
        self.uri = f"{scheme}://{bucket}/{prefix}".rstrip("/")

    @classmethod
    def from_env(cls, uri: str, environ: Mapping[str, str] = os.environ) -> Store:
        """The place `uri`, reached as the environment says; no network yet.

        ``STORE_ENDPOINT_URL``, ``STORE_ACCESS_KEY_ID``, ``STORE_SECRET_ACCESS_KEY``, ``STORE_SESSION_TOKEN``,
        ``STORE_REGION`` and ``STORE_CA_BUNDLE`` are read, each falling back to its ``AWS_`` namesake (the two
        keys as a pair), then to the machine's role.

        Raises:
            UserError: for a URI or variables that cannot be right.
        """
        scheme, bucket, prefix = split_uri(uri)
        return cls(Connection(Access.from_env(scheme, environ), _CONNECTIONS), scheme, bucket, prefix)

    def __repr__(self) -> str:
        return f"Store({self.uri!r}, endpoint={self.connection.endpoint!r})"

    def at(self, *parts: str) -> Store:
        """The same store below a sub-prefix; no network."""
        return Store(self.connection, self._scheme, self.bucket, self.name("/".join(part.strip("/") for part in parts)))

    def uri_of(self, key: str) -> str:
        """The whole URI of the object `key`."""
        return f"{self._scheme}://{self.bucket}/{self.name(key)}"

    def name(self, key: str) -> str:
        """The object's name in the bucket."""
        return f"{self.prefix}/{checked_key(key)}" if self.prefix else checked_key(key)

    def ensure_bucket(self) -> None:
        """Create the bucket where it is absent and that is allowed."""
        client, bucket = self.connection.client, self.bucket
        if self.connection.call(self.uri, lambda: client.bucket_exists(bucket), "s3:ListBucket"):
            return
        try:
            self.connection.call(self.uri, partial(_make_bucket, client, bucket), "s3:CreateBucket")
        except UserError as error:
            raise UserError(f"{self.uri}: there is no bucket {bucket!r}, and it cannot be created: {error}") from None

    # -------------------------------------------------------------------------------- single objects

    def put_bytes(self, key: str, data: bytes, content_type: str | None = None) -> None:
        """Write an object in one request, replacing one that is there."""
        self._put(self.connection.client, key, data, content_type)

    def create_bytes(self, key: str, data: bytes, content_type: str | None = None) -> bool:
        """Write an object where none is; False where one is. Of several writers one gets True.

        A store without conditional writes is asked first and written then: there, two writers at the
        same moment may both get True. A retry after a lost answer may get False for its own bytes.
        """
        try:
            self._put(self.connection.creator, key, data, content_type)
        except Exists:
            return False
        except Unsupported:
            if self.exists(key):
                return False
            self.put_bytes(key, data, content_type)
        return True

    def _put(self, client: Any, key: str, data: bytes, content_type: str | None) -> None:
        name, kind = self.name(key), content_type or transfer.content_type(key)
        headers = transfer.digest_header(data)
        self.connection.call(
            self.uri_of(key),
            lambda: client.put_object(self.bucket, name, io.BytesIO(data), len(data), kind, headers),
            "s3:PutObject",
        )

    def get_bytes(self, key: str) -> bytes | None:
        """An object's content, None where it is absent. For small ones: it is held in memory.

        Raises:
            UserError: where it is not what was sent.
        """
        name = self.name(key)

        def received() -> tuple[bytes, str]:
            response = self.connection.client.get_object(self.bucket, name)
            try:
                return bytes(response.read()), transfer.digest_in(response.headers)
            finally:
                response.close()
                response.release_conn()

        def read() -> tuple[bytes, str]:
            data, sent = self.connection.call(self.uri_of(key), received, "s3:GetObject")
            found = hashlib.sha256(data).hexdigest()
            return data, f"sha256 {found[:12]}…, where {sent[:12]}… was sent" if sent and found != sent else ""

        try:
            return transfer.undamaged(self.uri_of(key), read)
        except Absent:
            return None

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        return self.digest(key) is not None

    def digest(self, key: str) -> str | None:
        """The SHA-256 an object was sent with, "" where it was sent by others, None where it is absent."""
        name = self.name(key)
        try:
            status = self.connection.call(
                self.uri_of(key), lambda: self.connection.client.stat_object(self.bucket, name), "s3:GetObject"
            )
        except Absent:
            return None
        return transfer.digest_in(status.metadata)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, by rising keys, a page at a time."""
        base = f"{self.prefix}/" if self.prefix else ""
        after: str | None = None
        patience = Patience()
        while True:
            try:
                for found in self.connection.client.list_objects(
                    self.bucket, base + prefix, recursive=True, start_after=after
                ):
                    after = str(found.object_name)
                    patience = Patience()
                    yield ObjectInfo(
                        after.removeprefix(base), found.size or 0, (found.etag or "").strip('"'), found.last_modified
                    )
                return
            except FAILURES as error:
                if not self.connection.again(self.uri, error, patience):
                    raise self.connection.explained(self._listed(prefix), error, "s3:ListBucket") from error

    def folders(self) -> tuple[str, ...]:
        """The first parts of all keys that have more than one, sorted."""
        base = f"{self.prefix}/" if self.prefix else ""

        def read() -> tuple[str, ...]:
            found = [str(o.object_name) for o in self.connection.client.list_objects(self.bucket, base)]
            return tuple(sorted(name.removeprefix(base).rstrip("/") for name in found if name.endswith("/")))

        return self.connection.call(self._listed(""), read, "s3:ListBucket")

    def _listed(self, prefix: str) -> str:
        """The place of a listing, as a policy's condition on prefixes has it."""
        base = f"{self.prefix}/" if self.prefix else ""
        return f"{self._scheme}://{self.bucket}/{base}{prefix}*"

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are absent already are no error."""
        names = [self.name(key) for key in keys]
        for start in range(0, len(names), _DELETED_AT_ONCE):
            batch = [DeleteObject(name) for name in names[start : start + _DELETED_AT_ONCE]]
            kept = self.connection.call(self.uri, partial(self._remove, batch), "s3:DeleteObject")
            if kept:
                missing = "; check that the credentials have the permission s3:DeleteObject there"
                raise UserError(
                    *(
                        f"s3://{self.bucket}/{e.name}: cannot be deleted ({e.code}: {e.message})"
                        f"{missing if e.code == 'AccessDenied' else ''}"
                        for e in kept
                    )
                )

    def _remove(self, batch: Iterable[DeleteObject]) -> Any:
        return [*self.connection.client.remove_objects(self.bucket, batch)]

    def delete_tree(self) -> None:
        """Delete everything below this place, the manifest first: readers never see half a tree."""
        if not self.prefix:
            raise ValueError(f"{self.uri} is a whole bucket; delete below a prefix of it")
        self.delete([MANIFEST])
        batch: list[str] = []
        for info in self.list():
            batch.append(info.key)
            if len(batch) == _DELETED_AT_ONCE:
                self.delete(batch)
                batch.clear()
        self.delete(batch)

    def upload_file(self, key: str, path: Path, content_type: str | None = None) -> None:
        """Send a file, in parts where it is large; its type is guessed from the key.

        Raises:
            UserError: when the file is changed meanwhile.
        """
        transfer.send(self, key, path, kind=content_type)

    def download_file(self, key: str, path: Path) -> None:
        """Fetch an object; `path` (its folder is made) holds all of it or is left as it was.

        Raises:
            UserError: when the object is absent or is not what was sent, and when `path` cannot be written.
        """
        transfer.fetch(self, key, path)

    # ----------------------------------------------------------------------------------------- trees

    def put_tree(self, folder: Path, made_by: Mapping[str, Any] | None = None) -> Manifest:
        """Publish a folder's files below this place, MANIFEST.json last; see `trees.put_files`.

        Raises:
            UserError: for an empty folder, a name no key can have, a link that leaves the folder, and
                where other content is published, or being published, at this place.
        """
        return put_files(self, files_below(folder), made_by)

    def put_files(self, files: Mapping[str, Path], made_by: Mapping[str, Any] | None = None) -> Manifest:
        """Publish named files (path in the tree → file, links followed) as `put_tree` does."""
        return put_files(self, files, made_by)

    def manifest(self) -> Manifest | None:
        """The tree's manifest; None where no tree exists for readers.

        Raises:
            UserError: where the manifest is damaged.
        """
        data = self.get_bytes(MANIFEST)
        return None if data is None else Manifest.from_json(data, self.uri_of(MANIFEST))

    def get_tree(self, dest: Path, only: Callable[[str], bool] | None = None) -> Manifest:
        """Fetch a published tree, or the paths that `only` wants; see `trees.get_tree`.

        Raises:
            UserError: where no tree is, where content is missing or damaged (naming its key), and where
                `dest` cannot be written.
        """
        return get_tree(self, dest, only)

    # ------------------------------------------------------------------------------------ generation

    def generation(self) -> str:
        """An id that stays until the store is wiped or cleaned: what refers to an earlier one may refer to nothing."""
        data = self.get_bytes(_GENERATION)
        if data is None:
            self.create_bytes(_GENERATION, uuid.uuid4().hex.encode(), "text/plain")
            data = self.get_bytes(_GENERATION)
        if not data:
            raise UserError(f"{self.uri_of(_GENERATION)}: is empty or vanished while it was made; try again")
        return data.decode("ascii", errors="replace").strip()

    def next_generation(self) -> str:
        """Count the id up, so that what refers to the one before is known to be outdated; the new one.

        ``<id>-2``, ``<id>-3`` and so on: of two who do so at the same time, one number may be lost, never the change.
        """
        made, _, count = self.generation().partition("-")
        following = f"{made}-{(int(count) if count.isdecimal() else 1) + 1}"
        self.put_bytes(_GENERATION, following.encode(), "text/plain")
        return following


def _make_bucket(client: Any, bucket: str) -> None:
    try:
        client.make_bucket(bucket)
    except S3Error as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
