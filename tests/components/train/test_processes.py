"""Two processes that train one model: as one process does with the same batch, and they end together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifacts import CheckpointIndex
from components.errors import UserError
from components.storage import Store
from components.train import processes
from components.train.config import TrainConfig
from components.train.job import Job
from components.train.step import train
from tests.components.train.test_resume import same, tensors
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

SETTINGS: dict[str, Any] = {
    "max_train_steps": 12,
    "checkpointing_steps": 4,
    "learning_rate": 1e-4,
    # Otherwise Adam's first steps are as long where a gradient is nothing but rounding.
    "adam_epsilon": 1e-3,
    "num_threads": 1,
    # All that has to be shared out: micro-batches, prior images, two models, the average, states.
    "gradient_accumulation_steps": 2,
    "train_text_encoder": True,
    "use_ema": True,
    "with_prior_preservation": True,
    "class_prompt": "a photo",
    "num_class_images": 4,
    "state_every": 1,
}
ONE: dict[str, Any] = {**SETTINGS, "train_batch_size": 2}
TWO: dict[str, Any] = {**SETTINGS, "train_batch_size": 1, "num_processes": 2}


def arguments(crops: Path, base: Path, place: Store, out: Path) -> dict[str, Any]:
    return {
        "crops": crops,
        "base_model": str(base),
        "base_revision": "b" * 64,
        "generation": "1",
        "store": place.uri,
        "checkpoints": out / "checkpoints",
        "metrics": out / "metrics",
        "report": out / "train.html",
    }


@pytest.fixture(scope="module")
def undisturbed(crops: Path, tiny_base: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes, nothing killed."""
    out = tmp_path_factory.mktemp("two")
    train(TrainConfig(**TWO), **arguments(crops, tiny_base, store.at("test-processes", "two"), out))
    return out


def test_two_processes_learn_what_one_learns_with_their_batches_together(
    undisturbed: Path, crops: Path, tiny_base: Path, store: Store, tmp_path: Path
) -> None:
    train(TrainConfig(**ONE), **arguments(crops, tiny_base, store.at("test-processes", "one"), tmp_path))
    numbers = {
        out: json.loads((out / "metrics" / "training.json").read_text(encoding="utf-8"))
        for out in (tmp_path, undisturbed)
    }
    one, two = numbers.values()
    assert len(one["losses"]) == SETTINGS["max_train_steps"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["norms"] == pytest.approx(one["norms"], rel=1e-3)
    assert all(run["numbers"]["last_step_loss"] == run["losses"][-1] for run in (one, two))
    # Three processes, each of which has loaded torch: the two, and this one, which started them.
    assert two["numbers"]["peak_memory_gb"] > 3 * 0.25
    ours, theirs = tensors(tmp_path), tensors(undisturbed)
    assert ours.keys() == theirs.keys()
    last = [name for name in ours if name.startswith("12/")]
    moved = sum(float((ours[name] - ours[name.replace("12/", "4/", 1)]).abs().sum()) for name in last)
    apart = sum(float((ours[name] - theirs[name]).abs().sum()) for name in last)
    assert apart < 0.01 * moved


class Command:
    """`python -m components train` with two processes, and what it prints."""

    def __init__(self, settings: dict[str, Any], given: dict[str, Any]) -> None:
        flags = [part for key, value in given.items() for part in (f"--{key}", str(value))]
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "components", "train", *flags, *sets],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.output = ""

    def until(self, pattern: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if re.search(pattern, line):
                return
        pytest.fail(f"ended without {pattern!r}:\n{self.output}")

    def workers(self) -> list[int]:
        """The two processes that train, the main one first; waited for, as they begin as forks of this command's."""
        until = time.monotonic() + 20
        spawned: list[str] = []
        while len(spawned) < 2 and time.monotonic() < until:
            time.sleep(0.05)
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            spawned = [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(spawned) == 2, self.output
        return sorted(map(int, spawned))

    def status(self) -> int:
        rest, _ = self.process.communicate(timeout=120)
        self.output += rest
        return self.process.returncode


def gone(pid: int, within: float = 20.0) -> bool:
    """Whether the process ends; one that nobody waits for may stay as a zombie."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_they_end_together_and_go_on_to_the_same_weights(
    undisturbed: Path, crops: Path, tiny_base: Path, store: Store, tmp_path: Path
) -> None:
    given = arguments(crops, tiny_base, store.at("test-processes", "broken"), tmp_path)

    first = Command(TWO, given)
    first.until(r"checkpoint 4 published")
    workers = first.workers()
    os.kill(workers[1], signal.SIGKILL)
    assert first.status() == 128 + signal.SIGKILL, first.output
    assert "train-1 was ended by SIGKILL; that is what happens where memory runs out" in first.output
    assert all(gone(pid) for pid in workers)

    second = Command(TWO, given)
    second.until(r"checkpoint 8 published")
    second.process.send_signal(signal.SIGTERM)
    assert second.status() == 128 + signal.SIGTERM, second.output
    assert re.search(r"resumed at step \d+ of an earlier attempt", second.output)
    assert re.search(r"asked to end at step \d+, state saved", second.output)

    third = Command(TWO, given)
    third.until(r"train: 2 processes")
    workers = third.workers()
    third.process.kill()
    third.status()
    assert all(gone(pid) for pid in workers)

    train(TrainConfig(**TWO), **given)
    assert same(tensors(tmp_path), tensors(undisturbed))


def test_a_mistake_is_reported_as_by_one_process(crops: Path, tiny_base: Path, store: Store, tmp_path: Path) -> None:
    given = arguments(crops, tiny_base, store.at("test-processes", "mistake"), tmp_path)
    with pytest.raises(UserError, match=r"train\.class_prompt 'a photo of dark' is the prompt of dark too"):
        train(TrainConfig(**{**TWO, "class_prompt": "a photo of dark"}), **given)


def read_without_memory(job: Job) -> None:
    """As a reader that takes any error for a damaged file."""
    try:
        torch.ones(1 << 46)
    except RuntimeError:
        raise UserError("base: its files are damaged; copy it again") from None


def test_memory_that_runs_out_is_told_as_by_one_process(tmp_path: Path) -> None:
    config = TrainConfig(num_processes=2, num_threads=1)
    job = Job(config, tmp_path, tmp_path, "", CheckpointIndex("", "", "", "", "", 64, {}, [], {}), 0.0, tmp_path)
    with pytest.raises(UserError, match=r"^memory ran out \(.*lower train\.train_batch_size"):
        processes.train_together(read_without_memory, job, config)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"train\.num_processes is 2, and there are 1 GPUs here"):
        processes.accelerator(TrainConfig(num_processes=2))
