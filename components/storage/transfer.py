"""A file to the store and back: streamed, its SHA-256 checked on both ways, nothing half-written."""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from components.errors import UserError
from components.progress import log
from components.storage.connection import Absent
from components.storage.manifest import sha256_file

if TYPE_CHECKING:
    from components.storage.store import Store

T = TypeVar("T")

_BLOCK = 1 << 20
#: Files above this size are sent in parts of it; each file under way holds two of them.
_PART = 8 << 20
_MOST_PARTS = 10_000

#: How often an object that comes damaged is read: on its way it may be damaged once, in the store it always is.
_READS = 3

_HEADER = "x-amz-meta-sha256"


def content_type(key: str) -> str:
    """The media type that a key's ending stands for."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def digest_header(data: bytes) -> dict[str, str | list[str] | tuple[str]]:
    """The metadata that an object of these bytes is sent with."""
    return {_HEADER: hashlib.sha256(data).hexdigest()}


def digest_in(headers: Mapping[str, str] | None) -> str:
    """The SHA-256 in an object's headers, "" where it was sent without."""
    return {name.lower(): value for name, value in (headers or {}).items()}.get(_HEADER, "")


def send(
    store: Store,
    key: str,
    path: Path,
    sha256: str | None = None,
    create: bool = False,
    kind: str | None = None,
    moved: Callable[[int], None] = lambda count: None,
) -> str:
    """Send a file; the etag that the store gives it.

    Args:
        sha256: the digest it must still have; taken now where absent.
        create: only where no object is.
        moved: told of bytes as they go, and of minus as many where they go again.

    Raises:
        UserError: when the file is changed meanwhile; the object is then removed.
        Exists, Unsupported: with `create`, see `Connection.call`.
    """
    expected = sha256 or sha256_file(path)
    connection, name = store.connection, store.name(key)
    client = connection.creator if create else connection.client

    changed = UserError(
        f"{path}: changed while it was sent to {store.uri_of(key)}; run again when nothing writes to it"
    )

    def request() -> tuple[str, str]:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            source = _Source(file, moved)
            try:
                result = client.put_object(
                    store.bucket,
                    name,
                    cast(BinaryIO, source),
                    size,
                    kind or content_type(key),
                    {_HEADER: expected},
                    part_size=max(_PART, -(-size // _MOST_PARTS)),
                    # The client's own threads outlive an upload that fails; files already go in parallel.
                    num_parallel_uploads=1,
                )
            except BaseException:
                moved(-source.count)
                if source.count < size and not source.read(1):
                    raise changed from None
                raise
            return (result.etag or "").strip('"'), source.digest.hexdigest()

    etag, sent = connection.call(store.uri_of(key), request, "s3:PutObject")
    if sent != expected:
        store.delete([key])
        raise changed
    return etag


def fetch(
    store: Store,
    key: str,
    path: Path,
    sha256: str | None = None,
    size: int | None = None,
    moved: Callable[[int], None] = lambda count: None,
) -> None:
    """Fetch an object to `path`, whose folder is made; `path` is replaced when all of it is there.

    Args:
        sha256, size: what it must be; where absent, the digest that it was sent with, if any.
        moved: as for `send`.

    Raises:
        UserError: for an object that is absent or damaged, and where `path` cannot be written.
    """
    place, name = store.uri_of(key), store.name(key)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")

    def received() -> tuple[int, str, str]:
        response = store.connection.client.get_object(store.bucket, name)
        digest, count = hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                while block := response.read(_BLOCK):
                    file.write(block)
                    digest.update(block)
                    count += len(block)
                    moved(len(block))
            return count, digest.hexdigest(), digest_in(response.headers)
        except BaseException:
            moved(-count)
            raise
        finally:
            response.close()
            response.release_conn()

    def read() -> tuple[None, str]:
        count, found, stored = store.connection.call(place, received, "s3:GetObject")
        expected = sha256 or stored
        if (size is None or count == size) and (not expected or found == expected):
            return None, ""
        moved(-count)
        wanted = f"{size} bytes, " if size is not None else ""
        return None, f"{count} bytes, sha256 {found[:12]}…, where {wanted}{expected[:12]}… were published"

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        undamaged(place, read)
        temporary.replace(path)
    except Absent:
        raise UserError(f"{place}: not in the store; publish it again or correct the place") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some space or give a folder that may be written"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def undamaged(place: str, read: Callable[[], tuple[T, str]]) -> T:
    """What `read` gives, read again where it also says what is wrong with it.

    Raises:
        UserError: where it is so each time.
    """
    for left in reversed(range(_READS)):
        value, wrong = read()
        if not wrong:
            return value
        if left:
            log(f"{place}: came damaged ({wrong}); reading it again")
    raise UserError(f"{place}: damaged: {wrong}; delete it and publish it again")


class _Source:
    """A file that is digested as it is read: what was sent is what is compared, not what lies there now."""

    def __init__(self, file: BinaryIO, moved: Callable[[int], None]) -> None:
        self._file, self._moved = file, moved
        self.digest, self.count = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.count += len(data)
        self._moved(len(data))
        return data
