"""TCP ports of 127.0.0.1 on which nothing listens, remembered in a file.

A port is free when it is looked at; whoever listens on it must be ready to find it taken.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from components.errors import Unavailable

# With the offsets in use these stay below the range from which Linux gives out ports by itself (32768 and up),
# so that no outgoing connection takes one by chance.
_RANGE = range(10_240, 22_000)
_TRIED = 500


def remembered(path: Path, names: Iterable[str], offset: int, fresh: bool = False) -> dict[str, int]:
    """A port a name, free together with the port `offset` above it: those in `path`, else new ones.

    Args:
        fresh: take new ones in any case.

    Raises:
        Unavailable: when no ports are free.
    """
    wanted = list(names)
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        known = {name: int(port) for name, port in json.loads(path.read_text()).items()}
        if not fresh and set(known) == set(wanted) and all(is_free(port, offset) for port in known.values()):
            return known
    candidates = random.SystemRandom().sample(_RANGE, _TRIED)
    found = dict(zip(wanted, (port for port in candidates if is_free(port, offset))))
    if len(found) < len(wanted):
        raise Unavailable(f"no free ports between {_RANGE.start} and {_RANGE.stop + offset} on 127.0.0.1")
    path.write_text(json.dumps(found))
    return found


def is_free(port: int, offset: int) -> bool:
    """Whether a server may listen on `port` and on the one `offset` above it."""
    return all(_can_bind(number) for number in (port, port + offset))


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port on which closed connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
