"""Telling people that a run has ended, by a webhook that takes ``{"text": …}`` as Slack's and Mattermost's do.

Its address is a secret, since who knows it may write: it comes from the environment and is never printed.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from pydantic import ConfigDict, Field

from components.credentials import checked
from components.errors import Unavailable, UserError
from components.progress import log
from components.settings import Settings

URL = "WEBHOOK_URL"
#: What KFP calls an end that is good: the state of the execution in its metadata.
_GOOD = ("COMPLETE", "CACHED", "SUCCEEDED")
_TRIES, _WAIT, _TIMEOUT = 3, 5.0, 20.0


class Ended(Settings):
    """What KFP says of all that ran before (``PipelineTaskFinalStatus``), as far as it is used."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field("", description="COMPLETE, or how it ended otherwise.")


def notify(status: Ended, run_id: str, run_name: str, page: str, only_failures: bool) -> None:
    """Tell the webhook in the variable ``WEBHOOK_URL`` how a run ended.

    Args:
        status: of the run.
        page: address of KFP's pages, for a link; empty: none is given.
        only_failures: say nothing of a run that succeeded.

    Raises:
        UserError: where there is no address, or what is there refuses.
        Unavailable: where it does not answer, several times.
    """
    good = status.state in _GOOD
    if good and only_failures:
        log("the run succeeded; nobody is told")
        return
    url = checked(os.environ.get(URL, ""), URL)
    host = _host_of(url)
    if not url.startswith(("http://", "https://")) or not host:
        raise UserError(f"{URL}: holds no http:// or https:// address; put it into the secret that the profile names")
    how = "succeeded" if good else f"did not succeed (KFP says {status.state or 'nothing'})"
    link = f": {page.rstrip('/')}/#/runs/details/{run_id}" if page else f" ({run_id})"
    post(url, host, {"text": f"{run_name} {how}{link}"})
    log(f"told {host}")


def _host_of(url: str) -> str:
    """The host in an address, empty where there is none that can be asked."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        return host if parts.port != 0 else ""
    except ValueError:
        return ""


def post(url: str, host: str, message: dict[str, str], sleep: Callable[[float], None] = time.sleep) -> None:
    """Send `message` to `url`, which is called `host` where it is spoken of; as `notify` raises."""
    request = urllib.request.Request(
        url, json.dumps(message).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    why = ""
    for attempt in range(_TRIES):
        if attempt:
            sleep(_WAIT * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            why = f"status {error.code}"
            if error.code < 500 and error.code != 429:
                raise UserError(f"{host} refuses the notification ({why}); look at the address in {URL}") from None
        except (OSError, http.client.HTTPException) as error:
            # Not in the exception's words, which may repeat the address.
            why = type(getattr(error, "reason", error)).__name__
        except ValueError:
            raise UserError(
                f"{URL}: holds an address that cannot be asked; put it in anew, as it was given out"
            ) from None
    raise Unavailable(f"{host} does not take the notification ({why}, {_TRIES} tries)")
