"""Leases on the real store: steps and clean-ups that meet."""

from __future__ import annotations

import json
import threading
import time
import uuid

import pytest

from components import leases
from components.errors import Unavailable
from components.leases import CLEANUP, PREFIX, cleaning, held
from components.storage import Store

pytestmark = pytest.mark.integration


@pytest.fixture
def home(store: Store) -> Store:
    return store.at("leases-of", uuid.uuid4().hex)


def ended(home: Store, scope: str) -> list[str]:
    """Who held a scope and has ended."""
    place = home.at(PREFIX, scope)
    found = [json.loads(place.get_bytes(info.key) or b"") for info in place.list()]
    assert not any(lease["running"] for lease in found)
    return [lease["by"] for lease in found]


def written(home: Store, scope: str) -> list[bool]:
    """Whether each lease of a scope says that its holder is running."""
    place = home.at(PREFIX, scope)
    return [json.loads(place.get_bytes(info.key) or b"")["running"] for info in place.list()]


def test_a_lease_is_there_while_the_block_runs_and_says_when_it_ended(home: Store) -> None:
    with held(home, "run-abc", "train"):
        assert written(home, "run-abc") == [True]
        with held(home, "run-abc", "evaluate"):
            assert written(home, "run-abc") == [True, True]
    assert written(home, "run-abc") == [False, False]
    with pytest.raises(KeyError), held(home, "run-failed", "train"):
        raise KeyError
    assert written(home, "run-failed") == [False]


def test_a_lease_is_renewed(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEWED_EVERY", 0.05)
    with held(home, "run-abc", "train"):
        (info,) = home.list(f"{PREFIX}/")
        home.delete([info.key])
        while not home.exists(info.key):
            time.sleep(0.01)


def test_a_step_waits_for_a_cleanup_and_its_lease_is_seen_meanwhile(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_ASKED_EVERY", 0.02)
    began = threading.Event()

    def step() -> None:
        with held(home, "run-abc", "train"):
            began.set()

    with cleaning(home) as mark:
        thread = threading.Thread(target=step)
        thread.start()
        while not written(home, "run-abc"):
            time.sleep(0.01)
        assert not began.wait(0.3)
        mark.check()
    thread.join()
    assert began.is_set()
    assert not home.exists(f"{PREFIX}/{CLEANUP}")


def test_one_cleanup_at_a_time_and_a_dead_one_is_taken_over(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with cleaning(home) as first:
        with pytest.raises(Unavailable, match="another clean-up is running"), cleaning(home):
            pytest.fail("both at once")
        assert abs(first.now() - time.time()) < 60
        stale = leases.STALE
        monkeypatch.setattr(leases, "STALE", -1.0)
        with cleaning(home) as second:
            monkeypatch.setattr(leases, "STALE", stale)
            with pytest.raises(Unavailable, match="has taken over"):
                first.check()
            second.check()
        with pytest.raises(Unavailable, match="has taken over"):
            first.now()
    assert not home.exists(f"{PREFIX}/{CLEANUP}")


def test_a_cleanup_that_stood_still_for_long_stops(home: Store) -> None:
    with cleaning(home) as mark:
        mark.check()
        mark.renewed -= leases.STALE
        with pytest.raises(Unavailable, match="not renewed for 2 min 30 s"):
            mark.check()
        mark.renew()
        mark.check()


def test_a_step_goes_on_beside_a_cleanup_that_died(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    home.at(PREFIX).put_bytes(CLEANUP, b'{"schema": 1, "token": "dead"}')
    monkeypatch.setattr(leases, "STALE", 0.0)
    with held(home, "run-abc", "train"):
        assert written(home, "run-abc") == [True]


def test_a_damaged_mark_is_nobodys(home: Store) -> None:
    with cleaning(home) as mark:
        home.put_bytes(f"{PREFIX}/{CLEANUP}", b"[")
        assert not mark.is_ours()
        with pytest.raises(Unavailable, match="another clean-up has taken over"):
            mark.check()
