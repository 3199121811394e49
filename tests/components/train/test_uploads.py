"""Uploads in the background: order, back-pressure, errors, and a store that goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifacts import CheckpointIndex, read_json
from components.disk import refusal
from components.errors import Unavailable, UserError
from components.storage import Store, connection
from components.train import loop, uploads
from components.train.config import TrainConfig
from components.train.run import Run
from components.train.snapshot import Snapshot, packed
from components.train.step import train
from components.train.uploads import Uploads, persistently
from pipelines.embedded_store import EmbeddedStore


def test_one_job_at_a_time_is_under_way_and_the_next_waits_for_it() -> None:
    release, done = threading.Event(), []

    def slow() -> None:
        release.wait(10)
        done.append("slow")

    with Uploads() as background:
        background.submit(slow)
        background.check()
        assert done == []
        threading.Timer(0.1, release.set).start()
        background.submit(lambda: done.append("next"))
        assert done[:1] == ["slow"]
        assert background.waited > 0
    assert done == ["slow", "next"]


@pytest.mark.parametrize("later", [Uploads.ready, lambda u: u.submit(lambda: None), lambda u: None])
def test_what_a_job_raises_is_raised_by_the_next_call(later: Callable[[Uploads], object]) -> None:
    def fail() -> None:
        raise UserError("the bucket is gone")

    def use() -> None:
        with Uploads() as background:
            background.submit(fail)
            later(background)

    with pytest.raises(UserError, match="the bucket is gone"):
        use()


def test_an_exception_in_the_loop_waits_for_the_job_and_is_the_one_that_is_raised() -> None:
    done = []

    def fail() -> None:
        done.append(1)
        raise UserError("later")

    def use() -> None:
        with Uploads() as background:
            background.submit(fail)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        use()
    assert done == [1]


def test_a_store_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PAUSE_SECONDS", 0.01)
    tries = []

    def away() -> None:
        tries.append(1)
        raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        persistently(away, patience=0.1)
    assert len(tries) > 2


@pytest.mark.integration
def test_a_store_that_goes_away_in_the_middle_costs_time_and_no_checkpoint(
    crops: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.5)
    monkeypatch.setattr(uploads, "_PAUSE_SECONDS", 0.2)
    server = EmbeddedStore(tmp_path / "store")
    server.__enter__()
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    original = loop.Trainer.step
    back: list[threading.Thread] = []

    def come_back() -> None:
        server.__enter__()

    def step(self: loop.Trainer) -> Any:
        if self.done == 3:
            server.__exit__(None, None, None)
            back.append(threading.Timer(4, come_back))
            back[0].start()
        return original(self)

    monkeypatch.setattr(loop.Trainer, "step", step)
    try:
        train(
            TrainConfig(
                max_train_steps=8, checkpointing_steps=2, train_batch_size=1, learning_rate=1e-4, state_every=2,
                num_threads=1,
            ),
            crops=crops,
            base_model=str(tiny_base),
            base_revision="b" * 64,
            generation="1",
            store=server.uri,
            checkpoints=tmp_path / "out",
            metrics=tmp_path / "metrics",
            report=tmp_path / "report.html",
        )  # fmt: skip
        index = read_json(tmp_path / "out" / "index.json", CheckpointIndex)
        assert [ref.step for ref in index.refs()] == [0, 2, 4, 6, 8]
        for ref in index.refs()[1:]:
            # Every file is fetched, and its digest compared.
            assert Store.from_env(str(ref.uri)).get_tree(tmp_path / f"step-{ref.step}").files
    finally:
        back[0].join()
        server.__exit__(None, None, None)


@pytest.mark.integration
@pytest.mark.usefixtures("small_files")
def test_a_state_that_does_not_fit_the_disk_is_told_as_that(store: Store) -> None:
    snapshot = Snapshot(1, 2, packed({"unet": {"a": torch.zeros(300_000)}}), False, packed({}))
    with pytest.raises(RuntimeError) as caught:
        Run(store.at("test-full-disk"), "f" * 16).save(snapshot, {})
    assert "cannot be written (File too large)" in str(refusal(caught.value))
