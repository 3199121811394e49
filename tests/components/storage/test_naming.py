"""Names of versions sort as they were made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.storage.naming import VERSION, seconds_of, version_after

TIMES = st.integers(0, 4_000_000_000)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.tuples(TIMES, DIGESTS), min_size=1, max_size=6))
def test_every_name_sorts_after_those_before_it_whatever_the_clock(made: list[tuple[int, str]]) -> None:
    known: list[str] = []
    for now, digest in made:
        name = version_after(["latest.json", *known], digest, now)
        assert VERSION.fullmatch(name)
        assert name.endswith(digest[:12])
        assert all(name > other for other in known)
        assert seconds_of(name) >= now
        known.append(name)


@pytest.mark.parametrize("time", ["22001601T000000Z", "20260100T000000Z", "20260101T250000Z", "00000101T000000Z"])
def test_a_time_that_there_is_none_of_is_no_version(time: str) -> None:
    assert not VERSION.fullmatch(f"{time}-000000000000")
    assert VERSION.fullmatch(version_after([f"{time}-000000000000"], "0" * 64))
    # What calendars do not have is a time all the same.
    assert seconds_of("20260230T000000Z-000000000000") == seconds_of("20260302T000000Z-000000000000")
