"""The bounds of ``make load``: what takes too much, or was not looked at, is told."""

from __future__ import annotations

import subprocess
import sys

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
    script = (
        "import os, sys, threading\n"
        "for _ in range(20): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "kept = bytearray(50_000_000), [os.pipe() for _ in range(20)]\n"
        "print('there', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        seen = Peak()
        seen.look(process.pid)
        process.communicate()
    assert seen.threads == 21
    assert 43 <= seen.files < 50
    assert 50e6 < seen.memory < 150e6
