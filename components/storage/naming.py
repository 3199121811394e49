"""Names of versions: the time they were made and a digest of what they hold.

``YYYYMMDDTHHMMSSZ-<12 hexadecimal digits>`` sorts as time does, and two who make different things at the same
moment do not take the same name.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable

VERSION = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{12}")

_STAMP = "%Y%m%dT%H%M%SZ"


def version_after(known: Iterable[str], digest: str, now: float | None = None) -> str:
    """A name that sorts after all `known` ones, whatever the clock of who made them said.

    Args:
        known: names of versions; what is no such name is passed over.
        digest: of the content, hexadecimal; its first 12 digits are part of the name.
        now: seconds since 1970; the time of this machine where absent.
    """
    stamp = time.strftime(_STAMP, time.gmtime(now))
    last = max((match[1] for name in known if (match := VERSION.fullmatch(name))), default="")
    if last >= stamp:
        stamp = time.strftime(_STAMP, time.gmtime(seconds_of(last) + 1))
    return f"{stamp}-{digest[:12]}"


def seconds_of(version: str) -> int:
    """When a version was made by its name, seconds since 1970."""
    return calendar.timegm(time.strptime(version.partition("-")[0], _STAMP))
