"""The object store: ``s3://`` places in any S3 (SeaweedFS, MinIO, Ceph, AWS), reached with the minio client.

    uri.py         ``s3://bucket/prefix`` and keys, checked
    access.py      endpoint, credentials and TLS from the environment
    connection.py  one request: tried again while the store is busy, errors in the user's terms
    manifest.py    MANIFEST.json: what a published tree holds; digests
    naming.py      names of versions
    store.py       `Store`: single objects below a prefix
    transfer.py    one file, sent and fetched, held against its digest
    parts.py       files sent in parts whose sender ended
    trees.py       folders published whole, fetched whole

Not covered: what the objects mean, and a server (`pipelines.embedded_store`).
"""

from components.storage.manifest import MANIFEST, Entry, Manifest, digest_of, sha256_file
from components.storage.naming import VERSION, version_after
from components.storage.store import ObjectInfo, Store
from components.storage.trees import Conflict
from components.storage.uri import parse_uri

__all__ = [
    "MANIFEST",
    "VERSION",
    "Conflict",
    "Entry",
    "Manifest",
    "ObjectInfo",
    "Store",
    "digest_of",
    "parse_uri",
    "sha256_file",
    "version_after",
]
