"""Runs that are repeated, interrupted or broken off, in one process: what is found and what is kept."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import UserError
from components.storage import MANIFEST, Store
from components.train import loop
from tests.components.train.actions import Train, moved, weights

pytestmark = pytest.mark.integration


def test_the_same_run_is_found_in_the_store_and_not_trained_again(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(folder="first")

    def unexpected(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop.Trainer, "step", unexpected)
    assert run(folder="second") == first


@pytest.mark.parametrize("how", ["gone", "torn manifest"])
def test_a_run_whose_checkpoint_is_gone_is_trained_again(run: Train, place: Store, tmp_path: Path, how: str) -> None:
    first = run(folder="first")
    uri = first.refs()[1].uri
    assert uri is not None
    if how == "gone":
        Store.from_env(uri).delete_tree()
    else:
        Store.from_env(uri).put_bytes(MANIFEST, b"{")
    second = run(folder="second")
    assert second.refs()[1].uri != uri
    a, b = (weights(i, 4, tmp_path / n) for i, n in ((first, "p"), (second, "c")))
    assert not moved(a["unet"], b["unet"])


class Killed(Exception):
    """Stands for the end of the process: nothing after it runs."""


def test_an_interrupted_run_ends_with_the_very_weights_of_an_undisturbed_one(
    run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "max_train_steps": 6,
        "state_every": 2,
        "use_ema": True,
        "ema_decay": 0.9,
        "train_text_encoder": True,
        "lr_scheduler": "cosine",
    }
    undisturbed = weights(run(folder="whole", **settings), 6, tmp_path / "p")
    place.at("train").delete_tree()

    original = loop.Trainer.step
    steps: list[int] = []

    def step(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        if self.done == 5 and not steps:
            steps.append(self.done)
            raise Killed
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", step)
    with pytest.raises(Killed):
        run(folder="broken", **settings)
    assert not (tmp_path / "broken").exists()
    resumed_from: list[int] = []

    def watched(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        resumed_from.append(self.done)
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", watched)
    resumed = run(folder="resumed", **settings)
    assert resumed_from[0] == 4
    assert [ref.step for ref in resumed.refs()] == [0, 2, 4, 6]
    after = weights(resumed, 6, tmp_path / "c")
    for part in ("unet", "text_encoder"):
        assert not moved(undisturbed[part], after[part])
    assert not list(place.at("train", resumed.fingerprint, "state").list())


def watched_and_killed(monkeypatch: pytest.MonkeyPatch, at: int) -> list[tuple[int, int]]:
    """Have the first attempt end before step `at`; the step and the threads that each step after that begins with."""
    original = loop.Trainer.step
    begun: list[tuple[int, int]] = []
    killed: list[int] = []

    def step(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        if self.done == at and not killed:
            killed.append(self.done)
            raise Killed
        if killed:
            begun.append((self.done, torch.get_num_threads()))
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", step)
    return begun


def test_states_that_are_saved_more_or_less_often_are_gone_on_from(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = watched_and_killed(monkeypatch, at=3)
    with pytest.raises(Killed):
        run(folder="broken", state_every=2)
    resumed = run(folder="resumed", state_every=1)
    assert begun[0][0] == 2
    assert resumed.settings["state_every"] == 1
    # Nor is it trained again, and what is handed on says what was asked for.
    count = len(begun)
    again = run(folder="again", state_every=0, state_every_minutes=5)
    assert len(begun) == count
    assert again == dataclasses.replace(
        resumed, settings={**resumed.settings, **{"state_every": 0, "state_every_minutes": 5}}
    )


def test_a_run_with_fewer_checkpoints_does_not_answer_for_one_with_all(run: Train, place: Store) -> None:
    fewer = run(folder="fewer", checkpointing_steps=1, checkpoints_total_limit=1)
    every = run(folder="all", checkpointing_steps=1)
    assert [ref.step for ref in fewer.refs()] == [0, 4]
    assert [ref.step for ref in every.refs()] == [0, 1, 2, 3, 4]
    assert all(ref.uri is None or Store.from_env(ref.uri).manifest() for ref in (*fewer.refs(), *every.refs()))


def test_a_run_goes_on_with_the_threads_that_it_began_with(
    run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    settings = {"num_threads": None, "state_every": 2, "max_train_steps": 5}
    try:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
        undisturbed = weights(run(folder="whole", **settings), 5, tmp_path / "p")
        place.at("train").delete_tree()
        begun = watched_and_killed(monkeypatch, at=3)
        with pytest.raises(Killed):
            run(folder="broken", **settings)
        # The next attempt is given a larger node.
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
        resumed = run(folder="resumed", **settings)
    finally:
        torch.set_num_threads(before)
    assert begun == [(2, 1), (3, 1), (4, 1)]
    assert (
        "threads a process: 1, as before the interruption; the cores here are enough for 3" in capsys.readouterr().out
    )
    assert not moved(undisturbed["unet"], weights(resumed, 5, tmp_path / "c")["unet"])
    # Said of the settings is what was asked for, of each checkpoint what made it.
    assert resumed.settings["num_threads"] is None
    manifest = Store.from_env(str(resumed.refs()[-1].uri)).manifest()
    assert manifest is not None
    assert manifest.made_by["threads"] == 1


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_published(
    run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Trainer.step

    def broken(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        loss, norm = original(self)
        return loss * (float("nan") if self.done > 2 else 1), norm

    monkeypatch.setattr(loop.Trainer, "step", broken)
    with pytest.raises(UserError, match=r"step 3.*learning_rate"):
        run()
    assert not (tmp_path / "out").exists()
    keys = {info.key for info in place.list()}
    assert any("step-000002/MANIFEST.json" in key for key in keys)
    assert not any("step-000004" in key or (key.endswith("index.json") and "/train/" in key) for key in keys)
    [page] = [key for key in keys if key.endswith("reports/train.html")]
    text = (place.get_bytes(page) or b"").decode()
    assert "the loss at step 3 is nan" in text
    assert "loss curve" in text
