"""Who works with what in the store, so that clean-up leaves it alone.

    <store>/leases/<scope>/<holder>.json   one who works, and on what: a run, a data set, a model
                  /CLEANUP.json            the clean-up that is running

A lease is renewed every minute while its holder works, and written a last time when it ends: how long ago that was
says how long the scope has been quiet. All times compared are the store's own, as its listing gives them.

Two who meet: a holder writes its lease and then looks for a clean-up; a clean-up writes its mark and then looks for
leases. The store shows every write to whoever looks afterwards, so at least one of them sees the other: a
clean-up keeps what is held, a holder waits until the clean-up has ended, or has not renewed its mark for `STALE`.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from components.documents import parse_json
from components.errors import Unavailable, UserError
from components.progress import duration, log
from components.storage import Store

PREFIX = "leases"
CLEANUP = "CLEANUP.json"

#: Seconds without renewal after which a holder, or a clean-up, is taken to be dead.
STALE = 300.0
_RENEWED_EVERY = 60.0
_ASKED_EVERY = 2.0


def run_scope(fingerprint: str) -> str:
    """The scope of a training run and of what is measured and made of it."""
    return f"run-{fingerprint}"


def dataset_scope(name: str) -> str:
    """The scope of a data set in the store."""
    return f"dataset-{name}"


def model_scope(name: str) -> str:
    """The scope of a published model."""
    return f"model-{name}"


@contextmanager
def held(store: Store, scope: str, by: str) -> Iterator[None]:
    """Keep clean-up away from `scope` while the block runs; waits for one that is running.

    Args:
        store: the root that clean-up works on.
        by: who holds it, for people.
    """
    leases = store.at(PREFIX)
    key = f"{scope}/{uuid.uuid4().hex[:12]}.json"

    def write(running: bool) -> None:
        data = {"schema": 1, "by": by, "running": running}
        leases.put_bytes(key, json.dumps(data).encode(), "application/json")

    write(True)
    try:
        with _renewed(lambda: write(True)):
            _wait_for_cleanup(leases, key)
            yield
    finally:
        try:
            write(False)
        except (UserError, Unavailable) as error:
            # What the block did stands, and the lease goes stale by itself.
            log(f"{leases.uri_of(key)}: not written ({error})")


@contextmanager
def cleaning(store: Store) -> Iterator[Cleaning]:
    """Be the one clean-up of `store` while the block runs.

    Raises:
        Unavailable: where another one is running.
    """
    leases, token = store.at(PREFIX), uuid.uuid4().hex
    data = json.dumps({"schema": 1, "token": token}).encode()
    if not leases.create_bytes(CLEANUP, data, "application/json"):
        probe = f"cleanup-{token}.json"
        leases.put_bytes(probe, b"{}", "application/json")
        try:
            fresh = _age(leases, CLEANUP, probe)
        finally:
            leases.delete([probe])
        if fresh is not None and fresh < STALE:
            raise Unavailable(
                f"{leases.uri_of(CLEANUP)}: another clean-up is running; try again when it has ended "
                f"(one that was killed is in the way for {duration(STALE)})"
            )
        leases.put_bytes(CLEANUP, data, "application/json")
    made = Cleaning(leases, token)
    try:
        with _renewed(made.renew):
            yield made
    finally:
        if made.is_ours():
            leases.delete([CLEANUP])


@dataclass
class Cleaning:
    """The mark of a clean-up that is running."""

    leases: Store
    token: str
    renewed: float = field(default_factory=time.time)  #: when the mark was written last, by this machine's clock

    def now(self) -> float:
        """The store's time, seconds since 1970.

        Raises:
            Unavailable: where another clean-up has taken over.
        """
        self.renew()
        for info in self.leases.list(CLEANUP):
            if info.key == CLEANUP and info.last_modified is not None and self.is_ours():
                return info.last_modified.timestamp()
        raise Unavailable(f"{self.leases.uri_of(CLEANUP)}: another clean-up has taken over; this one stops")

    def is_ours(self) -> bool:
        """Whether no other clean-up has taken over, thinking this one dead."""
        data = self.leases.get_bytes(CLEANUP)
        try:
            return data is not None and parse_json(data)["token"] == self.token
        except (ValueError, LookupError, TypeError):
            return False

    def renew(self) -> None:
        """Write the mark again, unless another clean-up has taken over."""
        began = time.time()
        if self.is_ours():
            data = json.dumps({"schema": 1, "token": self.token}).encode()
            self.leases.put_bytes(CLEANUP, data, "application/json")
            self.renewed = began

    def check(self) -> None:
        """Stop where this clean-up is not known to be running any more.

        Raises:
            Unavailable: where another has taken over, or the mark was not renewed for so long (a machine that slept,
                a store that did not answer) that steps may soon take this one for dead.
        """
        if time.time() - self.renewed > STALE / 2:
            raise Unavailable(f"{self.leases.uri_of(CLEANUP)}: not renewed for {duration(STALE / 2)}; start again")
        if not self.is_ours():
            raise Unavailable(f"{self.leases.uri_of(CLEANUP)}: another clean-up has taken over; this one stops")


@contextmanager
def _renewed(write: Callable[[], None]) -> Iterator[None]:
    """Call `write` every minute, in a thread, while the block runs."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWED_EVERY):
            try:
                write()
            except (UserError, Unavailable) as error:
                log(f"a lease was not renewed ({error}); trying again in a minute")

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _wait_for_cleanup(leases: Store, key: str) -> None:
    said = False
    while (age := _age(leases, CLEANUP, key)) is not None and age < STALE:
        if not said:
            log(f"a clean-up of {leases.uri.removesuffix('/' + PREFIX)} is running; waiting until it has ended")
            said = True
        time.sleep(_ASKED_EVERY)
        # Written anew, it shows the store's time.
        data = leases.get_bytes(key)
        if data is not None:
            leases.put_bytes(key, data, "application/json")


def _age(leases: Store, key: str, now: str) -> float | None:
    """Seconds from the last write of `key` to that of `now`; None where `key` is absent."""
    times = {info.key: info.last_modified for name in (key, now) for info in leases.list(name)}
    written, latest = times.get(key), times.get(now)
    if written is None or latest is None:
        return None
    return (latest - written).total_seconds()
