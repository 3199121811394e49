"""One request to the store: tried again while that may help, and errors in the user's terms.

The only place that tries again: the client below makes each request once. Covers which answers pass,
how long to wait for them, and what the others mean to the person who reads the message.
"""

from __future__ import annotations

import base64
import hashlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from components.errors import Unavailable, UserError
from components.progress import log
from components.storage.access import Access

T = TypeVar("T")

#: How long a store is waited for that has never answered: a wrong address should be told at once.
FIRST_PATIENCE = 4.0
#: How long one is waited for that has answered before: a pod that moves to another node takes so long.
PATIENCE = 60.0
#: What a request to the client ends with. It raises ValueError, among others, where XML is not S3's.
FAILURES = (MinioException, HTTPError, ParseError, ValueError)

_FIRST_DELAY, _MOST_DELAY = 0.2, 8.0

_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "TooManyRequests", "OperationAborted"}
# Two writers created the same object at the same moment: whether it is there is known on the next try.
_BUSY |= {"ConditionalRequestConflict"}
#: What was sent was damaged on its way; the store has kept nothing of it.
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch"}
#: How the client's ValueErrors over XML begin: an element that is not there, a time, a number, a character.
_OF_XML = ("XML element", "time data", "invalid literal for int", "'utf-8' codec can't decode")
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidTokenId"}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "Redirect", "IllegalLocationConstraintException"}
_ABSENT = {"NoSuchKey", "ResourceNotFound"}


class Absent(Exception):
    """The object is not there."""


class Exists(Exception):
    """An object that was to be created is there already."""


class Unsupported(Exception):
    """The store does not know this kind of request."""


class Connection:
    """A store and the right to use it; shared by threads, not by processes."""

    def __init__(self, access: Access, connections: int) -> None:
        self._access = access
        self.client = access.client(_Digested, maxsize=connections)
        #: The same, but a write succeeds only where nothing is. A header of S3 for which the client has
        #: no argument, on a transport of our own.
        self.creator = access.client(_CreateOnly, maxsize=connections)
        self._answered = threading.Event()

    @property
    def endpoint(self) -> str:
        return self._access.endpoint

    def call(self, place: str, request: Callable[[], T], needs: str) -> T:
        """What `request` returns; it may run more than once. `place` leads every message.

        Args:
            needs: the permissions that the request takes, as S3's policies name them; for the message that one is
                missing.

        Raises:
            Absent, Exists, Unsupported: as the store says of the request.
            UserError: the store refuses: credentials, rights, bucket, region, certificate, clock.
            Unavailable: it did not answer, or was too busy, for `PATIENCE` seconds.
        """
        patience = Patience()
        while True:
            try:
                result = request()
            except FAILURES as error:
                if not self.again(place, error, patience):
                    raise self.explained(place, error, needs) from error
            else:
                self._answered.set()
                return result

    def again(self, place: str, error: Exception, patience: Patience) -> bool:
        """Wait and say True where `error` may pass; False where it will not, or has had its time.

        An error that is neither the store's nor the line's, but a defect of ours, is raised.
        """
        if isinstance(error, ValueError) and not str(error).startswith(_OF_XML):
            raise error
        # XML that cannot be read has been damaged; or it is a web page, and then so is the next.
        damaged = isinstance(error, (ParseError, ValueError))
        if isinstance(error, MinioException):
            self._answered.set()
        if not damaged and not _passing(error):
            return False
        known = self._answered.is_set()
        limit = PATIENCE if known else 0.0 if damaged else FIRST_PATIENCE
        message = f"{place}: {self.endpoint} {_reason(error)}; trying again for {limit:.0f} s"
        # An answer that does not come takes all the time there is: it is asked for once more all the same.
        return patience.wait(limit, message, least=1 if known or damaged else 0)

    def explained(self, place: str, error: Exception, needs: str) -> Exception:
        """What to raise for `error`: `call` says which, and what `needs` is."""
        access = self._access
        if isinstance(error, S3Error):
            code, status = error.code or "", getattr(error.response, "status", 0)
            if code in _ABSENT:
                return Absent(place)
            if code == "PreconditionFailed":
                return Exists(place)
            if code == "NotImplemented":
                return Unsupported(place)
            if code == "NoSuchBucket":
                return UserError(
                    f"{place}: there is no such bucket at {access.endpoint}; create it or correct the name"
                )
            if code in _CREDENTIALS:
                return UserError(
                    f"{place}: {access.endpoint} refuses the credentials ({code}); check {access.credentials_from}"
                )
            if code == "RequestTimeTooSkewed":
                return UserError(f"{place}: this machine's clock and the store's differ; set this machine's clock")
            if code in _REGION:
                return UserError(
                    f"{place}: the bucket is in another region ({error.message}); set STORE_REGION, "
                    f"or correct {access.endpoint_from}"
                )
            if status in (401, 403):
                return UserError(
                    f"{place}: {access.endpoint} denies access ({code}); check {access.credentials_from}, and that "
                    f"they have the permission {needs} there"
                )
            if not _passing(error):
                return UserError(f"{place}: {access.endpoint} refuses the request ({code}: {error.message})")
        elif isinstance(error, (InvalidResponseError, ServerError, ValueError, ParseError)) and not _passing(error):
            return UserError(
                f"{place}: {access.endpoint} does not speak S3; check {access.endpoint_from} "
                "(a web page's port instead of the store's?)"
            )
        elif _tls(error):
            if "CERTIFICATE_VERIFY" not in _reason(error):
                return UserError(
                    f"{place}: {access.endpoint} does not speak TLS; is it http:// in {access.endpoint_from}?"
                )
            return UserError(
                f"{place}: the certificate of {access.endpoint} is not trusted ({_reason(error)}); give the "
                "certificate authority's PEM file in STORE_CA_BUNDLE"
            )
        return Unavailable(
            f"{place}: {access.endpoint} {_reason(error)}; check that the object store runs and that "
            f"{access.endpoint_from} names it, then try again"
        )


class Patience:
    """Waits between tries: twice as long each time, and never two waiters in step."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._tries = 0

    def wait(self, limit: float, message: str, least: int = 0) -> bool:
        """Sleep and say True; False, after `least` waits, where `limit` seconds would pass. `message`: logged once."""
        delay = min(_MOST_DELAY, _FIRST_DELAY * 2**self._tries) * random.uniform(0.5, 1.0)
        if self._tries >= least and time.monotonic() - self._started + delay > limit:
            return False
        self._tries += 1
        if self._tries == 3:
            log(message)
        time.sleep(delay)
        return True


class _Digested(urllib3.PoolManager):
    """Adds ``Content-MD5`` to every body, which a store holds what it receives against.

    The client signs the body's SHA-256, but not every store looks at that (SeaweedFS does not), and TCP's checksum lets
    damage through.
    """

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
        if (body := kw.get("body")) and "Content-MD5" not in kw["headers"]:
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            kw["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
        return super().urlopen(method, url, redirect, **kw)


class _CreateOnly(_Digested):
    """Adds ``If-None-Match: *`` to what creates an object: a whole put, or the end of one in parts."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> Any:  # type: ignore[override]
        in_parts = "uploadId=" in url
        if (method == "PUT" and not in_parts) or (method == "POST" and in_parts):
            kw["headers"]["If-None-Match"] = "*"
        return super().urlopen(method, url, redirect, **kw)


def _passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, S3Error):
        status = getattr(error.response, "status", 0)
        return error.code in _BUSY | _DAMAGED or status == 429 or (status >= 500 and status != 501)
    if isinstance(error, (ServerError, InvalidResponseError)):
        status = error.status_code if isinstance(error, ServerError) else error._code
        return status == 429 or (status >= 500 and status != 501)
    return isinstance(error, HTTPError) and not _tls(error)


def _tls(error: Exception) -> bool:
    reason = getattr(error, "reason", None)
    return isinstance(error, urllib3.exceptions.SSLError) or isinstance(reason, urllib3.exceptions.SSLError)


def _reason(error: Exception) -> str:
    """Why a request failed, as the end of a sentence that begins with the endpoint."""
    if isinstance(error, S3Error):
        return f"received damaged bytes ({error.code})" if error.code in _DAMAGED else f"is busy ({error.code})"
    if isinstance(error, (ParseError, ValueError)):
        return "answered with damaged XML"
    if isinstance(error, MinioException):
        return "is busy"
    cause: Any = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "has a host name that nobody knows"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return "refuses the connection" if "refused" in str(cause) else "cannot be reached"
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        return "does not answer in time"
    if isinstance(cause, urllib3.exceptions.SSLError):
        return str(cause.args[0]) if cause.args else "TLS error"
    return f"broke the connection off ({type(cause).__name__})"
