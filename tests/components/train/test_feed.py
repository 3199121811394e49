"""Batches made ahead: the same ones, at the right time, and no thread left behind."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifacts import CheckpointIndex
from components.storage import Store
from components.train import loop
from components.train.batches import Batch
from components.train.feed import Feed
from components.train.loop import Trainer
from tests.components.train.actions import Train, call, weights

CPU = torch.device("cpu")


def batch(number: int) -> Batch:
    value = torch.full((2,), number)
    return Batch(value.float(), value.float(), value, value)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_batch_is_made_while_the_one_before_it_is_used() -> None:
    made: list[tuple[int, str]] = []
    second = threading.Event()

    def make(number: int) -> Batch:
        made.append((number, threading.current_thread().name))
        if number == 8:
            second.set()
        return batch(number)

    with Feed(make, CPU, ahead=True) as feed:
        assert feed.take(7).times.tolist() == [7, 7]
        assert second.wait(10), "nobody has asked for it yet"
        assert feed.take(8).times.tolist() == [8, 8]
        assert threads() == ["batches_0"]
    assert made[0] == (7, threading.current_thread().name)
    assert made[1] == (8, "batches_0")
    assert not threads()


def test_any_number_may_be_asked_for() -> None:
    with Feed(batch, CPU, ahead=True) as feed:
        assert [int(feed.take(number).times[0]) for number in (3, 4, 20, 21, 4, 4)] == [3, 4, 20, 21, 4, 4]


@pytest.mark.parametrize("ahead", [False, True])
def test_outside_the_block_and_where_it_is_off_there_is_no_thread(ahead: bool) -> None:
    feed = Feed(batch, CPU, ahead)
    assert feed.take(0).times.tolist() == [0, 0]
    assert not threads()
    with Feed(batch, CPU, ahead=False) as off:
        off.take(0)
        assert not threads()


def test_what_making_a_batch_raises_is_raised_where_that_batch_is_asked_for() -> None:
    def make(number: int) -> Batch:
        if number == 2:
            raise ArithmeticError("batch 2")
        return batch(number)

    feed = Feed(make, CPU, ahead=True)
    with feed:
        assert [int(feed.take(number).times[0]) for number in (0, 1)] == [0, 1]
        with pytest.raises(ArithmeticError, match="batch 2"):
            feed.take(2)
        assert int(feed.take(3).times[0]) == 3
    assert not threads()


def test_the_wait_for_a_batch_that_is_late_is_counted() -> None:
    going_on = threading.Event()

    def make(number: int) -> Batch:
        if number == 1:
            assert going_on.wait(10)
        return batch(number)

    with Feed(make, CPU, ahead=True) as feed:
        feed.take(0)
        before = feed.waited
        threading.Timer(0.2, going_on.set).start()
        feed.take(1)
    assert feed.waited - before > 0.1


def test_each_prompt_that_occurs_is_listed_once() -> None:
    prompts = torch.tensor([4, 1, 4, 0])
    found = Batch(torch.zeros(4), torch.zeros(4), prompts, prompts).by_text()
    assert found.texts is not None
    assert found.texts.tolist() == [0, 1, 4]
    assert torch.equal(found.texts[found.prompt], prompts)


@pytest.mark.integration
@pytest.mark.parametrize("text", [False, True], ids=["unet", "with text encoder"])
def test_batches_made_ahead_give_the_very_same_weights(run: Train, tmp_path: Path, text: bool) -> None:
    settings: dict[str, Any] = {"train_text_encoder": text, "gradient_accumulation_steps": 2}
    found = [weights(run(prefetch=ahead, **settings), 4, tmp_path / f"{ahead}") for ahead in (False, True)]
    for part in ("unet", "text_encoder"):
        assert all(torch.equal(found[0][part][name], found[1][part][name]) for name in found[0][part])
    assert not threads()


@pytest.mark.integration
def test_a_batch_that_cannot_be_drawn_ends_the_step_and_the_thread(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = loop.draw

    def broken(latents: Any, config: Any, time_steps: int, number: int, stream: int = 0) -> Batch:
        if number == 2:
            raise ArithmeticError("batch 2")
        return draw(latents, config, time_steps, number, stream)

    monkeypatch.setattr(loop, "draw", broken)
    with pytest.raises(ArithmeticError, match="batch 2"):
        run(prefetch=True)
    assert not threads()


@pytest.mark.integration
def test_a_run_that_is_asked_to_end_leaves_no_thread_and_goes_on(
    run: Train, crops: Path, tiny_base: Path, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def asked(self: Trainer) -> Any:
        if self.done == 2:
            assert threads() == ["batches_0"]
            signal.raise_signal(signal.SIGTERM)
        return step(self)

    settings: dict[str, Any] = {"prefetch": True, "state_every": 100}
    whole = call(crops, tiny_base, place.at("whole"), tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", asked)
        with pytest.raises(SystemExit, match="143"):
            run(**settings)
    assert not threads()
    index: CheckpointIndex = run(**settings)
    found = [weights(index, 4, tmp_path / name)["unet"] for index, name in ((whole, "a"), (index, "b"))]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
