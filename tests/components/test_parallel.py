from __future__ import annotations

import threading
import time

import pytest

from components.parallel import cores, parallel
from components.progress import Progress


def test_results_are_in_the_items_order() -> None:
    lines: list[str] = []
    progress = Progress("work", 20, unit="item", write=lines.append)

    def work(item: int) -> int:
        time.sleep(0.001 * (20 - item))
        return item * item

    assert parallel(work, range(20), 4, progress) == [i * i for i in range(20)]
    assert "20/20" in lines[-1]


def test_work_runs_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    parallel(lambda _: meeting.wait(), range(3), 3, Progress("work", 3))


def test_after_a_failure_nothing_new_begins() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise KeyError(item)
        time.sleep(0.01)

    with pytest.raises(KeyError):
        parallel(work, range(1000), 2, Progress("work", 1000))
    assert len(begun) < 20


def test_there_is_always_a_core_and_never_more_than_asked_for() -> None:
    assert cores(1) == 1
    assert 1 <= cores(4) <= 4
