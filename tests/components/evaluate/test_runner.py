"""Several models at the same time: results in their order, failures end what still draws."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from components import sampling
from components.artifacts import PUBLISHED
from components.errors import UserError
from components.evaluate.candidates import Candidate
from components.evaluate.config import EvaluateConfig
from components.evaluate.runner import Runner, workers_and_threads
from components.parallel import cores


def gone(folder: Path) -> sampling.Model:
    raise UserError("it is gone from the store")


def candidate(step: int) -> Candidate:
    return Candidate(step, f"step {step}", f"step {step}", f"step-{step}", gone)


def runner(folder: Path, *steps: int) -> Runner:
    return Runner([candidate(step) for step in steps], 8, folder, workers=2, threads=1)


def test_results_come_in_the_order_of_the_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second_done = threading.Event()

    def use(one: Candidate, model: Callable[[], sampling.Model], seen: Callable[[int], None]) -> str:
        if one.step == 0:
            # Would wait for ever if only one worked at a time.
            assert second_done.wait(60)
            seen(8)
        elif one.step == 200:
            raise sampling.NotFiniteError("no numbers")
        second_done.set()
        return one.label

    found = [(one.step, result) for one, result in runner(tmp_path, 0, 100, 200).run(use)]
    assert found == [(0, "step 0"), (100, "step 100"), (200, None)]
    said = capsys.readouterr().out
    assert "step 200 is left out: no numbers; training diverged" in said
    assert "drawing and measuring  24/24" in said


def test_a_checkpoint_that_is_gone_ends_the_others_at_their_next_batch(tmp_path: Path) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def use(one: Candidate, model: Callable[[], sampling.Model], seen: Callable[[int], None]) -> None:
        if one.step == 0:
            assert begun.wait(60)
            model()
        begun.set()
        try:
            for _ in range(600):
                seen(0)
                threading.Event().wait(0.1)
        except InterruptedError:
            stopped.set()
            raise

    with pytest.raises(UserError, match="gone from the store"):
        list(runner(tmp_path, 0, 100, 200, 300).run(use))
    assert stopped.is_set()


def test_the_published_model_may_be_gone(tmp_path: Path) -> None:
    def use(one: Candidate, model: Callable[[], sampling.Model], seen: Callable[[int], None]) -> None:
        if one.optional:
            model()

    (_, first), (_, last) = runner(tmp_path, 0, PUBLISHED).run(use)
    assert first is None
    assert isinstance(last, UserError)


def test_workers_and_threads_are_as_given_or_fit_the_machine() -> None:
    assert workers_and_threads(EvaluateConfig(workers=3, num_threads=2)) == (3, 2)
    workers, threads = workers_and_threads(EvaluateConfig())
    assert workers * threads <= cores(most=1024)
