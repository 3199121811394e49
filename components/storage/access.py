"""How the store is reached: endpoint, credentials and certificates, read from the environment.

Each variable has a name of our own and falls back to its AWS namesake: on a cluster KFP's launcher
reads the AWS ones in the same pod, for another store perhaps. An access key and its secret are always
taken as a pair. Without either pair the client's own providers are asked: ``~/.aws/credentials``, then
the role of the pod or machine. Nothing here prints, or keeps in a message, any credential.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, Credentials, IamAwsProvider, Provider, StaticProvider

from components.credentials import checked, signing
from components.errors import UserError

_ENDPOINTS = ("STORE_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("STORE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
_BUNDLES = ("STORE_CA_BUNDLE", "AWS_CA_BUNDLE")
_DEFAULT_ENDPOINTS = {"s3": "https://s3.amazonaws.com", "gs": "https://storage.googleapis.com"}

#: What the client takes for a region's name.
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
#: The parts of a host's name: letters of any script, digits, hyphens and, as Docker has them, underscores.
_LABEL = re.compile(r"[\w-]{1,63}")

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0


@dataclass(frozen=True)
class Access:
    """Everything a client is made of. `provider` is the only part that knows a secret."""

    endpoint: str  #: scheme, host and port
    endpoint_from: str  #: the variable to look at when nothing answers there
    credentials_from: str  #: the variables to look at when the store refuses
    region: str | None
    ca_bundle: str  #: path of a PEM file
    provider: Provider = field(repr=False)

    @classmethod
    def from_env(cls, scheme: str, environ: Mapping[str, str]) -> Access:
        """Read the variables. No network.

        Raises:
            UserError: for an endpoint that is no URL, a region that is none, half a pair of keys, keys that cannot be
                sent, a bundle that is not there.
        """
        endpoint, endpoint_from = _endpoint(scheme, environ)
        provider, credentials_from = _provider(environ)
        region, region_from = _first(environ, _REGIONS)
        if region is not None and not _REGION.fullmatch(region):
            raise UserError(f"{region_from}: {region!r} is no region's name; write one such as us-east-1, or unset it")
        if region is None and endpoint != _DEFAULT_ENDPOINTS["s3"]:
            # Elsewhere than at AWS the region hardly ever matters, and asking for it needs one more right.
            region = "us-east-1"
        return cls(endpoint, endpoint_from, credentials_from, region, _bundle(endpoint, environ), provider)

    def client(self, pool_class: type[urllib3.PoolManager] = urllib3.PoolManager, **pool: Any) -> Minio:
        """A client that tries each request once: trying again is `Connection.call`'s alone."""
        manager = pool_class(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=urllib3.Retry(0, redirect=False, raise_on_redirect=False, raise_on_status=False),
            cert_reqs="CERT_REQUIRED",
            ca_certs=self.ca_bundle,
            **pool,
        )
        url = urlsplit(self.endpoint)
        return Minio(
            url.netloc,
            secure=url.scheme == "https",
            region=self.region,
            credentials=self.provider,
            http_client=manager,
        )


class _Ambient(Provider):
    """What the machine knows by itself: the user's AWS file, then the role of the pod or machine."""

    def __init__(self) -> None:
        # Outside a cloud the address that gives out roles does not answer; a laptop should not wait for it.
        quick = urllib3.PoolManager(timeout=urllib3.Timeout(connect=2.0, read=5.0), retries=False)
        self._known = [AWSConfigProvider(), IamAwsProvider(http_client=quick)]
        self._chosen: Provider | None = None

    def retrieve(self) -> Credentials:
        if self._chosen is not None:
            return _sendable(self._chosen.retrieve())
        for provider in self._known:
            try:
                credentials = provider.retrieve()
            except (ValueError, OSError, urllib3.exceptions.HTTPError):
                continue
            self._chosen = provider
            return _sendable(credentials)
        raise UserError(
            "no credentials for the object store: set STORE_ACCESS_KEY_ID and STORE_SECRET_ACCESS_KEY "
            "(or their AWS_ namesakes), or give this machine or pod a role"
        )


def _sendable(credentials: Credentials) -> Credentials:
    whose = "the credentials in the user's AWS file, or of this machine's or pod's role"
    for sent in (credentials.access_key, credentials.session_token):
        checked(sent or "", whose)
    signing(credentials.secret_key, whose)
    return credentials


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str | None, str]:
    """The first variable that is set and not empty, and its name; else None and the first name."""
    for name in names:
        if value := environ.get(name, "").strip():
            return value, name
    return None, names[0]


def _endpoint(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    value, name = _first(environ, _ENDPOINTS)
    if value is None:
        if scheme not in _DEFAULT_ENDPOINTS:
            raise UserError(f"{name}: not set; {scheme}:// needs the address of the store, http://host:port")
        return _DEFAULT_ENDPOINTS[scheme], name
    try:
        url = urlsplit(value)
        well_formed = url.scheme in ("http", "https") and _is_host(url.hostname or "") and url.port != 0
    except ValueError:
        url, well_formed = urlsplit(""), False
    if "@" in value:
        # The value is not repeated: it holds a password.
        raise UserError(
            f"{name}: holds a user name or password; give the address alone and set STORE_ACCESS_KEY_ID "
            "and STORE_SECRET_ACCESS_KEY"
        )
    if not well_formed:
        raise UserError(f"{name}: {value!r} is not the address of a store; write http(s)://host:port")
    if url.path.strip("/") or url.query or url.fragment:
        # The value is not repeated: what follows the host may open it.
        raise UserError(f"{name}: goes on after the host and port; write http(s)://host:port alone")
    return f"{url.scheme}://{url.netloc}", name


def _is_host(name: str) -> bool:
    """Whether `name` can be looked up: an IPv6 address, or parts between dots, each of which IDNA can write."""
    if ":" in name:
        return True
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return all(_LABEL.fullmatch(part) for part in name.removesuffix(".").split("."))


def _provider(environ: Mapping[str, str]) -> tuple[Provider, str]:
    for prefix in ("STORE", "AWS"):
        names = (f"{prefix}_ACCESS_KEY_ID", f"{prefix}_SECRET_ACCESS_KEY")
        key, secret = (take(environ.get(name, ""), name) for take, name in zip((checked, signing), names))
        if key and secret:
            token = f"{prefix}_SESSION_TOKEN"
            return StaticProvider(key, secret, checked(environ.get(token, ""), token) or None), " and ".join(names)
        if key or secret:
            missing, given = names if secret else names[::-1]
            raise UserError(f"{missing}: not set while {given} is; set both or neither")
    return _Ambient(), "STORE_ACCESS_KEY_ID and STORE_SECRET_ACCESS_KEY"


def _bundle(endpoint: str, environ: Mapping[str, str]) -> str:
    value, name = _first(environ, _BUNDLES)
    # A bundle for other services, which may not even be mounted here, is no matter to a store without TLS.
    if value is None or not endpoint.startswith("https://"):
        return os.environ.get("SSL_CERT_FILE") or certifi.where()
    if not Path(value).is_file():
        raise UserError(f"{name}: {value} is no file; give the PEM file with the store's certificate authority")
    return value
