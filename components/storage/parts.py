"""Files that were being sent in parts when their sender ended: no objects yet, and in no listing of those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from minio.error import S3Error

if TYPE_CHECKING:
    from components.storage.store import Store


@dataclass(frozen=True)
class Upload:
    """A file that is being sent in parts, or was."""

    key: str  #: below the store that was asked
    id: str
    begun: datetime


def unfinished(store: Store) -> Iterator[Upload]:
    """The files below `store` that were begun to be sent in parts and are not complete."""
    base = f"{store.prefix}/" if store.prefix else ""
    # The client has no public call for what its own uploads leave when they are killed.
    listed = store.connection.client._list_multipart_uploads
    after: str | None = None
    while True:
        request = partial(listed, store.bucket, prefix=base, key_marker=after)
        page = store.connection.call(store.uri, request, "s3:ListBucketMultipartUploads")
        for found in page.uploads:
            if found.upload_id and found.initiated_time:
                yield Upload(found.object_name.removeprefix(base), found.upload_id, found.initiated_time)
        after = page.next_key_marker
        if not page.is_truncated or not after:
            return


def give_up(store: Store, upload: Upload) -> None:
    """Have `store` forget the parts of an upload; one that has ended already is no error."""
    client, name = store.connection.client, store.name(upload.key)
    request = partial(_abort, client, store.bucket, name, upload.id)
    store.connection.call(store.uri_of(upload.key), request, "s3:AbortMultipartUpload")


def _abort(client: Any, bucket: str, name: str, upload: str) -> None:
    try:
        client._abort_multipart_upload(bucket, name, upload)
    except S3Error as error:
        if error.code != "NoSuchUpload":
            raise
