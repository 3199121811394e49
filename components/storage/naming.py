"""Names of versions: the time they were made and a digest of what they hold.

``YYYYMMDDTHHMMSSZ-<12 hexadecimal digits>`` sorts as time does, and two who make different things at the same
moment do not take the same name.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable

#: Months and hours that there are none of are no time, so no version: what lies under such a name is passed over.
_TIME = r"[1-9]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])[0-5]\d[0-5]\dZ"
VERSION = re.compile(rf"({_TIME})-[0-9a-f]{{12}}", re.ASCII)

_STAMP = "%Y%m%dT%H%M%SZ"
_FIELDS = (slice(0, 4), slice(4, 6), slice(6, 8), slice(9, 11), slice(11, 13), slice(13, 15))


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
    # A 30th of February, which no program writes, is taken for the 2nd of March.
    return calendar.timegm(tuple(int(version[field]) for field in _FIELDS))
