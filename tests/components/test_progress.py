"""Progress lines: how often, what they say, and how numbers read."""

from __future__ import annotations

import pytest

from components.progress import Progress, duration, size


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(steps: list[tuple[float, int]], total: int, begin: int = 0) -> list[str]:
    clock, lines = Clock(), list[str]()
    progress = Progress("training", total, clock=clock, write=lines.append)
    if begin:
        progress.begin(begin)
    for now, done in steps:
        clock.now = now
        progress.update(done, loss=0.12345)
    return lines


def test_a_line_at_most_every_five_seconds_and_always_a_last_one() -> None:
    lines = lines_of([(t, t) for t in range(1, 13)], total=12)
    assert len(lines) == 3
    assert lines[0] == "training  5/12  1.0 step/s  loss 0.1235  7 s left"
    assert lines[-1] == "training  12/12  1.0 step/s  loss 0.1235  done in 12 s"


def test_no_line_moves_the_cursor() -> None:
    assert not any("\r" in line or "\x1b" in line for line in lines_of([(6, 1), (12, 2)], total=2))


def test_resumed_work_is_not_counted_into_the_rate() -> None:
    assert "2.0 step/s" in lines_of([(5, 110)], total=120, begin=100)[0]


def test_slow_work_is_given_in_seconds_a_step() -> None:
    assert "5.0 s/step" in lines_of([(10, 2)], total=9)[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (19_640_000, "19.6 MB"), (4_270_000_000, "4.3 GB")],
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert size(count) == text
