"""Runs that are repeated, interrupted or broken off, in one process: what is found and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import UserError
from components.storage import Store
from components.train import loop
from tests.components.train.actions import Train, moved, weights

pytestmark = pytest.mark.integration


def test_the_same_run_is_found_in_the_store_and_not_trained_again(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(folder="first")

    def unexpected(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop.Trainer, "step", unexpected)
    assert run(folder="second") == first


def test_a_run_whose_checkpoint_is_gone_is_trained_again(run: Train, place: Store, tmp_path: Path) -> None:
    first = run(folder="first")
    uri = first.refs()[1].uri
    assert uri is not None
    Store.from_env(uri).delete_tree()
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
