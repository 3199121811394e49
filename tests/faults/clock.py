"""A clock that jumps, for the process that asks for it.

Wall-clock time only: what Python code gets from `time` and `datetime`. `time.monotonic` goes on, as it does on a
machine whose clock is set. Replaced are the functions of `time` and, in every module that holds it, the class
`datetime` (which is C and cannot be changed): for a process that does nothing else afterwards.
"""

from __future__ import annotations

import datetime as dates
import sys
import threading
import time
from typing import Any


def jump(after: float, seconds: float) -> None:
    """In `after` seconds from now, set this process's clock forward by `seconds` (back, where negative)."""
    offset = [0.0]
    now, gmtime, localtime, strftime = time.time, time.gmtime, time.localtime, time.strftime

    def shifted() -> float:
        return now() + offset[0]

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)
    time.gmtime = lambda when=None: gmtime(shifted() if when is None else when)
    time.localtime = lambda when=None: localtime(shifted() if when is None else when)
    time.strftime = lambda form, when=None: strftime(form, localtime(shifted()) if when is None else when)
    _replace_datetime(offset)
    timer = threading.Timer(after, lambda: offset.__setitem__(0, seconds))
    timer.daemon = True
    timer.start()


def _replace_datetime(offset: list[float]) -> None:
    original: Any = dates.datetime

    class _Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, original)

    class Shifted(original, metaclass=_Kind):
        @classmethod
        def now(cls, tz: dates.tzinfo | None = None) -> Any:
            return original.now(tz) + dates.timedelta(seconds=offset[0])

        @classmethod
        def utcnow(cls) -> Any:
            return original.now(dates.timezone.utc).replace(tzinfo=None) + dates.timedelta(seconds=offset[0])

    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is original:
                setattr(module, name, Shifted)
