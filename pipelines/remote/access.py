"""Where Kubeflow Pipelines is and how it knows us: from flags, the environment, and kfp's own client config.

A flag goes before its variable, a variable before ``~/.config/kfp/context.json``. The variables are those that kfp's
client and command line read, where they have one. Not covered: Google's Identity-Aware Proxy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import UserError

#: Where kfp's client keeps what it remembers.
CONTEXT = Path("~/.config/kfp/context.json")
#: The namespace that Kubeflow Pipelines itself is installed in, unless said otherwise.
INSTALLED_IN = "kubeflow"
#: This machine, by its names and addresses: nobody has a certificate for it.
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:|/|$)")


@dataclass(frozen=True)
class Access:
    """How to reach a server; what is secret is not shown."""

    host: str | None = None  #: URL of the API; None where ports are forwarded
    scheme_taken: bool = False  #: whether `host` was given without http:// or https://
    ui: str | None = None  #: URL of the pages, where it is not the API's
    namespace: str | None = None  #: of the runs, in multi-user mode
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None  #: read anew for each request: a cluster's tokens are short-lived
    cookie: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca_file: Path | None = None
    forward: str | None = None  #: the namespace below, where ports are to be forwarded
    installed_in: str = INSTALLED_IN  #: namespace of KFP's own services
    context: str | None = None  #: kubectl's

    @property
    def pods_in(self) -> str:
        """The namespace that the pods of runs are in."""
        return self.namespace or self.forward or INSTALLED_IN


def flags() -> argparse.ArgumentParser:
    """A parent parser with the flags that `from_flags` reads."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = made.add_argument_group("reaching Kubeflow Pipelines")
    group.add_argument("--host", metavar="URL", help="of the API (KF_PIPELINES_ENDPOINT, KFP_ENDPOINT)")
    group.add_argument(
        "--port-forward",
        action="store_true",
        help="reach it through kubectl, which must be logged in, in place of --host",
    )
    group.add_argument(
        "--installed-in",
        default=INSTALLED_IN,
        metavar="NAMESPACE",
        help=f"where Kubeflow Pipelines itself is, for kubectl ({INSTALLED_IN})",
    )
    group.add_argument("--context", metavar="NAME", help="kubectl's context (its current one)")
    group.add_argument("--namespace", metavar="NAME", help="of the runs, in multi-user mode (KFP_NAMESPACE)")
    group.add_argument(
        "--token", metavar="TOKEN",
        help="a bearer token; others on this machine can read flags, so better KFP_EXISTING_TOKEN or a file",
    )  # fmt: skip
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with a bearer token (KF_PIPELINES_SA_TOKEN_PATH)"
    )
    group.add_argument(
        "--cookie", metavar="NAME=VALUE", help="of a login in the browser, such as oauth2_proxy's (KFP_COOKIE)"
    )
    group.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificate authority of the host, PEM (KFP_CA_BUNDLE)"
    )
    return made


def from_flags(given: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Access:
    """How to reach the server that the flags, the environment and kfp's config name.

    Raises:
        UserError: with everything that is missing or wrong.
    """
    kept = _kept()
    host = given.host or environ.get("KF_PIPELINES_ENDPOINT") or environ.get("KFP_ENDPOINT")
    forward = given.installed_in if given.port_forward else None
    scheme_given = "://" in (host or "")
    problems = []
    if given.host and forward:
        problems.append("--host and --port-forward: give one of them")
    if forward is not None:
        host = None
    elif not host:
        problems.append(
            "where is Kubeflow Pipelines? Give --host URL (or the variable KF_PIPELINES_ENDPOINT), or --port-forward "
            "to reach it through kubectl"
        )
    elif not scheme_given:
        host = f"{'http' if _LOOPBACK.match(host) else 'https'}://{host}"
    elif not host.startswith(("http://", "https://")):
        problems.append(f"--host {host}: is no http:// or https:// address")
    token_file = given.token_file or _path(environ.get("KF_PIPELINES_SA_TOKEN_PATH"))
    token = given.token or environ.get("KFP_EXISTING_TOKEN")
    if given.token and given.token_file:
        problems.append("--token and --token-file: give one of them")
    if given.token_file:
        token = None
    elif token:
        token_file = None
    cookie = given.cookie or environ.get("KFP_COOKIE") or kept.get("client_authentication_cookie")
    if cookie and "=" not in cookie:
        problems.append("--cookie: write NAME=VALUE, as the browser's developer tools show it")
    ca_file = given.ca_file or _path(environ.get("KFP_CA_BUNDLE"))
    for flag, path in (("--token-file", token_file), ("--ca-file", ca_file)):
        if path is not None and not path.is_file():
            problems.append(f"{flag} {path}: no such file")
    if problems:
        raise UserError(*problems)
    name, value = kept.get("client_authentication_header_name"), kept.get("client_authentication_header_value")
    return Access(
        host=host.rstrip("/") if host else None,
        scheme_taken=bool(host) and not scheme_given,
        ui=environ.get("KF_PIPELINES_UI_ENDPOINT", "").rstrip("/") or None,
        namespace=given.namespace or environ.get("KFP_NAMESPACE") or kept.get("namespace") or None,
        token=token,
        token_file=token_file,
        cookie=cookie,
        headers=((name, value),) if name and value else (),
        ca_file=ca_file,
        forward=forward,
        installed_in=given.installed_in,
        context=given.context,
    )


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _kept() -> dict[str, Any]:
    path = CONTEXT.expanduser()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: kfp's client config cannot be read ({error}); mend or delete it") from None
    return found if isinstance(found, dict) else {}
