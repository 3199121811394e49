"""One server: each request to Kubeflow Pipelines, and what can be wrong with it in the user's terms.

The generated client (`kfp_server_api`) makes requests and reads answers; this module is the one place where they pass.
Not kfp's own `Client`, which prints, asks five times with a traceback each where nobody answers, and waits without end.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import kfp_server_api
import urllib3

from components.errors import Unavailable, UserError
from components.progress import duration, log
from pipelines.remote.access import Access
from pipelines.remote.kubectl import PortForward

T = TypeVar("T")

#: The oldest release that knows all that the compiled pipeline asks for (a step's user, group and non-root).
OLDEST = (2, 16)
#: Seconds to connect, and to answer.
_TIMEOUT = (10, 60)


class Missing(UserError):
    """What was asked for is not there (404)."""


class Conflict(UserError):
    """What was to be made is there already (409)."""


class Server:
    """A server that answered, and is of a version that can run this pipeline."""

    def __init__(self, access: Access, host: str, forward: PortForward | None = None) -> None:
        self.access, self._forward, self._host = access, forward, host
        self._client = _Client(access, host)
        self.experiments = kfp_server_api.ExperimentServiceApi(self._client)
        self.pipelines = kfp_server_api.PipelineServiceApi(self._client)
        self.uploads = kfp_server_api.PipelineUploadServiceApi(self._client)
        self.runs = kfp_server_api.RunServiceApi(self._client)
        self.recurring_runs = kfp_server_api.RecurringRunServiceApi(self._client)
        self.namespace = access.namespace  #: of runs; None in single-user mode

    def check(self) -> None:
        """Look at the version, and whether a namespace must be named.

        Raises:
            UserError: where this server cannot do what is asked of it.
            Unavailable: where it does not answer.
        """
        try:
            health = json.loads(self.text("/apis/v2beta1/healthz"))
        except Missing:
            raise UserError(
                f"{self._host}: no Kubeflow Pipelines 2 answers there: it is older, or the address is not the API's "
                "(behind Kubeflow's dashboard it ends in /pipeline)"
            ) from None
        except ValueError:
            raise UserError(f"{self._host}: answers, but not as Kubeflow Pipelines does; check --host") from None
        if health.get("apiServerReady") is False:
            raise Unavailable(f"{self._host}: KFP's pages are there, and say that its API does not answer them")
        # KFP's pages pass requests on, but for this one, whose answer is their own.
        release = str(health.get("tag_name") or health.get("apiServerTagName") or "")
        if (match := re.match(r"v?(\d+)\.(\d+)", release)) and (int(match[1]), int(match[2])) < OLDEST:
            raise UserError(
                f"{self._host}: is Kubeflow Pipelines {release}; this pipeline needs {OLDEST[0]}.{OLDEST[1]} or newer, "
                "which give a step its user and group"
            )
        if not health.get("multi_user"):
            self.namespace = None
        elif self.namespace is None:
            raise UserError(f"{self._host}: serves several users; say whose namespace with --namespace NAME")

    def text(self, path: str) -> str:
        """The answer to a GET that is no part of the generated client."""
        answer = self._client.call_api(
            path, "GET", header_params={"Accept": "*/*"}, auth_settings=["Bearer"], _preload_content=True,
            response_type=None, _return_http_data_only=True,
        )  # fmt: skip
        assert answer is None
        return str(self._client.last_response.data)

    def page(self, kind: str, name: str) -> str:
        """Address of a page: ``runs``, ``recurringrun`` or ``experiments`` and an id."""
        if self.access.ui or self.access.host:
            return f"{self.access.ui or self.access.host}/#/{kind}/details/{name}"
        return f"http://localhost:8080/#/{kind}/details/{name}"

    def page_needs(self) -> str | None:
        """What must be running for `page` to open; None where nothing must."""
        if self.access.ui or self.access.host:
            return None
        return f"kubectl -n {self.access.forward} port-forward svc/ml-pipeline-ui 8080:80"

    def patient(
        self, call: Callable[[], T], patience: float, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:  # fmt: skip
        """What `call` returns, called again for up to `patience` seconds while the server does not answer.

        Raises:
            Unavailable: the last one, after that.
        """
        since, wait = clock(), 1.0
        while True:
            try:
                return call()
            except Unavailable as error:
                gone = clock() - since
                if gone + wait > patience:
                    raise Unavailable(f"{error}; given up after {duration(gone)}") from None
                log(f"{error}; asking again in {duration(wait)}")
            sleep(wait)
            wait = min(2 * wait, 30.0)
            if self._forward is not None and not self._forward.alive:
                with contextlib.suppress(UserError, Unavailable):
                    self._forward.restart()


@contextlib.contextmanager
def connected(access: Access) -> Iterator[Server]:
    """The server that `access` leads to, checked; forwarded ports are closed in the end."""
    with contextlib.ExitStack() as stack:
        forward = None
        host = access.host
        if host is None:
            assert access.forward is not None
            forward = stack.enter_context(PortForward(access.forward, "ml-pipeline", 8888, access.context))
            host = f"http://127.0.0.1:{forward.port}"
        server = Server(access, host, forward)
        server.check()
        yield server


class _Client(kfp_server_api.ApiClient):
    """The generated client, with errors of ours."""

    def __init__(self, access: Access, host: str) -> None:
        settings = kfp_server_api.Configuration(host=host)
        # Asking again is `Server.patient`'s; a redirect is a login page, and is not followed.
        settings.retries = False
        settings.ssl_ca_cert = str(access.ca_file) if access.ca_file else None
        if access.token or access.token_file:
            settings.api_key = {"authorization": access.token or ""}
            settings.api_key_prefix = {"authorization": "Bearer"}
        if access.token_file is not None:
            path = access.token_file

            def read(into: Any) -> None:
                into.api_key["authorization"] = path.read_text(encoding="utf-8").strip()

            settings.refresh_api_key_hook = read
        super().__init__(settings, cookie=access.cookie)
        for name, value in access.headers:
            self.set_default_header(name, value)
        self._scheme_taken = ""
        if access.scheme_taken:
            scheme, other = ("http", "https") if host.startswith("http:") else ("https", "http")
            self._scheme_taken = f"; {scheme}:// was tried, as none was written: write {other}:// where that is meant"
        self._logged_in = bool(settings.api_key or access.cookie or access.headers)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """As the generated client's.

        Raises:
            UserError: what the server refuses.
            Unavailable: where it does not answer, or not as it should.
        """
        host = self.configuration.host
        options["_request_timeout"] = options.get("_request_timeout") or _TIMEOUT
        try:
            answer = super().request(method, url, **options)
        except kfp_server_api.ApiException as error:
            raise self._refused(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"Kubeflow Pipelines does not answer at {host} ({_reason(error)}){self._scheme_taken}"
            ) from None
        if "text/html" in (answer.getheader("content-type") or ""):
            if url.endswith("/log"):
                raise Missing(f"{host}: KFP's pages do not pass this on")
            raise self._not_logged_in("a web page came instead of an answer; or this is not the API's address")
        return answer

    def _refused(self, error: Any) -> Exception:
        host = self.configuration.host
        if not error.status:
            why = _short(str(error.reason))
            if "CERTIFICATE_VERIFY_FAILED" in why:
                return UserError(f"{host}: its certificate is not trusted ({why}); give its authority's with --ca-file")
            return UserError(f"{host}: no TLS is spoken there ({why}); write http:// where that is meant")
        if 300 <= error.status < 400:
            return self._not_logged_in("it leads to a login")
        if error.status == 401:
            return self._not_logged_in("status 401")
        said = _message(error)
        if "exceeded quota" in said:
            return UserError(f"a quota of the cluster is used up: {said}")
        if error.status == 403:
            return UserError(f"{host}: whom it takes us for may not do this (status 403): {said}")
        if error.status == 404:
            return Missing(f"{host}: not found: {said}")
        if error.status == 409:
            return Conflict(f"{host}: there already: {said}")
        if error.status == 429 or error.status >= 500:
            return Unavailable(f"Kubeflow Pipelines failed at {host} (status {error.status}): {said}")
        return UserError(f"{host}: refused (status {error.status}): {said}")

    def _not_logged_in(self, how: str) -> UserError:
        host = self.configuration.host
        if self._logged_in:
            return UserError(
                f"{host}: the token or cookie is not valid, or has expired ({how}); log in and take a new one"
            )
        return UserError(
            f"{host}: asks for a login ({how}); give --token-file FILE, or --cookie NAME=VALUE of a browser"
        )


def _message(error: Any) -> str:
    """What the server said, without its stack of causes."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        data = json.loads(body)
        found = data.get("message") or data.get("error_message") or data.get("error")
    except (ValueError, AttributeError):
        found = None
    # A proxy in between answers with a page.
    return _short(str(found or ("" if body.lstrip().startswith("<") else body) or error.reason))


def _short(text: str) -> str:
    """One line, of a length that can be read."""
    line = " ".join(text.split())
    return line if len(line) <= 600 else line[:600] + "…"


def _reason(error: Exception) -> str:
    """The innermost words of urllib3's exception."""
    text = str(error)
    return _short(text.rsplit(": ", 1)[-1] if ": " in text else text or type(error).__name__)
