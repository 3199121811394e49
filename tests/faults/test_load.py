"""The bounds of ``make load``: what takes too much, or was not looked at, is told."""

from __future__ import annotations

import os
import threading

from tests.faults.load import Peak, Row

MOST = Peak(memory=1000, files=10, threads=5)


def test_what_takes_less_than_its_bound_is_well() -> None:
    assert Row("x", 1.0, Peak(1000, 10, 5), MOST).excesses() == []


def test_each_excess_is_told_with_its_bound() -> None:
    assert Row("x", 1.0, Peak(3000, 11, 6), MOST).excesses() == [
        "x: memory 3.0 kB, and at most 1.0 kB were expected",
        "x: files 11, and at most 10 were expected",
        "x: threads 6, and at most 5 were expected",
    ]


def test_a_process_that_was_never_seen_is_told() -> None:
    assert len(Row("x", 1.0, Peak(), MOST).excesses()) == 3


def test_a_process_is_seen_with_its_threads_files_and_memory() -> None:
    before, after, going = Peak(), Peak(), threading.Event()
    before.look(os.getpid())
    threads = [threading.Thread(target=going.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    ends = [os.pipe() for _ in range(20)]
    after.look(os.getpid())
    going.set()
    for end in (number for pair in ends for number in pair):
        os.close(end)
    assert after.threads >= before.threads + 20
    assert after.files >= before.files + 40
    assert after.memory > 0
