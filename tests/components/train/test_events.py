"""TensorBoard itself reads the course of runs: whole, interrupted and broken off, in a folder and in the store."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifacts import EVENTS
from components.errors import UserError
from components.storage import Store
from components.train import loop
from pipelines import events
from pipelines.embedded_store import EmbeddedStore
from tests.components.train.actions import Train

pytestmark = pytest.mark.integration

READER = Path(__file__).with_name("read_events.py")
TAGS = {"loss", "gradient_norm", "learning_rate"}


def read(logdir: str | Path, **variables: str) -> dict[str, dict[str, list[tuple[int, float, float]]]]:
    """Run → tag → (step, value, time), as TensorBoard has it."""
    python = os.environ.get("TENSORBOARD_PYTHON")
    if not python:
        pytest.skip("TENSORBOARD_PYTHON does not name a Python with tensorboard and boto3 installed")
    done = subprocess.run(
        [python, str(READER), str(logdir)], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[tuple[int, float, float]]]] = json.loads(done.stdout)
    return found


def fetched(place: Store, folder: Path) -> Path:
    """`folder`, with the events of the one run at `place`."""
    assert events.fetch(place, the_run(place), folder)
    return folder


def the_run(place: Store) -> str:
    [fingerprint] = place.at("train").folders()
    return fingerprint


def broken_at(step: int, how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the trainer go through `how` (loss, norm → loss, norm) after `step`."""
    original = loop.Trainer.step

    def broken(self: loop.Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        made = original(self)
        return how(*made) if self.done == step else made

    monkeypatch.setattr(loop.Trainer, "step", broken)


def test_every_step_is_there_with_its_numbers(
    run: Train, place: Store, embedded_store: EmbeddedStore, tmp_path: Path
) -> None:
    began = time.time()
    run(max_train_steps=5, lr_scheduler="linear")
    [(name, scalars)] = read(fetched(place, tmp_path / "events")).items()
    assert name.startswith("000000-")
    assert scalars.keys() == TAGS
    reports = place.at("train", the_run(place), "reports")
    numbers = json.loads(reports.get_bytes("training.json") or b"")
    for tag, of in (("loss", "losses"), ("gradient_norm", "norms"), ("learning_rate", "rates")):
        steps, values, times = zip(*scalars[tag])
        assert steps == (1, 2, 3, 4, 5)
        assert values == pytest.approx(numbers[of])
        assert list(times) == sorted(times)
        assert began < times[0] < times[-1] < time.time()
    environ = embedded_store.environ
    in_store = read(
        f"{reports.uri}/{EVENTS}",
        S3_ENDPOINT=environ["STORE_ENDPOINT_URL"],
        AWS_ACCESS_KEY_ID=environ["STORE_ACCESS_KEY_ID"],
        AWS_SECRET_ACCESS_KEY=environ["STORE_SECRET_ACCESS_KEY"],
    )
    assert in_store == {name: scalars}


def test_attempts_are_told_apart(run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        broken_at(4, killed, patch)
        with pytest.raises(KeyboardInterrupt):
            run(max_train_steps=6, state_every=2, checkpointing_steps=3)
    run(max_train_steps=6, state_every=2, checkpointing_steps=3)
    found = {name: [step for step, *_ in s["loss"]] for name, s in read(fetched(place, tmp_path / "events")).items()}
    (first, one), (second, other) = sorted(found.items())
    assert first.startswith("000000-")
    assert one == [1, 2, 3]
    assert second.startswith("000002-")
    assert other == [3, 4, 5, 6]


def test_what_ended_a_run_is_seen(run: Train, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_at(3, lambda loss, norm: (loss * float("nan"), norm), monkeypatch)
    with pytest.raises(UserError, match="the loss at step 3 is nan"):
        run()
    [scalars] = read(fetched(place, tmp_path / "events")).values()
    assert [math.isnan(value) for _, value, _ in scalars["loss"]] == [False, False, True, False]
