"""Places in an object store: the URI of a bucket and prefix, and the keys below it."""

from __future__ import annotations

import re

from components.errors import UserError

SCHEMES = ("s3", "minio", "gs")

# The rules that every S3 shares: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MOST_BYTES = 1024


def split_uri(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix (without slashes at its ends) of ``s3://bucket/prefix``.

    ``minio://`` and ``gs://`` are KFP's names for the same thing and are taken too.

    Raises:
        UserError: for another scheme, no or an impossible bucket name, and what `key_problem` refuses.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in SCHEMES:
        raise UserError(f"{uri!r}: not a place in an object store; write s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if ":" in bucket or "@" in bucket:
        # Not repeated: what stands before the bucket is a key and its secret.
        raise UserError(
            f"{scheme}://…: holds credentials, or is no bucket's name; write {scheme}://bucket/prefix, and give the "
            "credentials in STORE_ACCESS_KEY_ID and STORE_SECRET_ACCESS_KEY"
        )
    if not _BUCKET.fullmatch(bucket):
        raise UserError(
            f"{uri!r}: {bucket!r} cannot be a bucket's name; write {scheme}://bucket/prefix with 3 to 63 "
            "lower-case letters, digits, dots and hyphens as the bucket"
        )
    prefix = prefix.strip("/")
    if prefix and (problem := key_problem(prefix)):
        raise UserError(f"{uri!r}: the prefix {problem}; write {scheme}://bucket/prefix")
    return scheme, bucket, prefix


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``; raises as `split_uri` does."""
    _, bucket, prefix = split_uri(uri)
    return bucket, prefix


def key_problem(key: str) -> str | None:
    """What is wrong with a key or relative path, as the end of a sentence; None where nothing is.

    A sound key, joined to a folder, stays below that folder on every system.
    """
    if not key:
        return "is empty"
    if key.startswith("/") or re.match(r"[A-Za-z]:", key):
        return "is absolute"
    if "\\" in key:
        return "holds a backslash"
    if _CONTROL.search(key):
        return "holds control characters or is no valid text"
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "holds an empty part, '.' or '..'"
    if len(key.encode()) > _MOST_BYTES:
        return f"is longer than {_MOST_BYTES} bytes"
    return None


def checked_key(key: str) -> str:
    """`key`, which a program made up. Raises ValueError where it is unsound."""
    if problem := key_problem(key):
        raise ValueError(f"key {key!r} {problem}")
    return key


def key_part(text: str, what: str) -> str:
    """`text`, which a user gave, as one part of a key; `what` names it.

    Raises:
        UserError: where it cannot be one.
    """
    problem = "holds a slash" if "/" in text else key_problem(text)
    if problem:
        raise UserError(f"{what}: {text!r} {problem}; give what snapshot gives, or letters, digits, dots and dashes")
    return text
