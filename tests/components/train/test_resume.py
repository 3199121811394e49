"""Runs that are killed, asked to end, or meet each other: what is left is what an undisturbed run leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, read_json
from components.storage import Store
from components.train import run as runs
from components.train.config import TrainConfig
from tests.conftest import ROOT
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration

STEPS = 12
COMMON: dict[str, Any] = {
    "max_train_steps": STEPS,
    "checkpointing_steps": 4,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "state_every": 1,
    "num_threads": 1,
}
#: Method → its settings and how many times it is killed: 20 in all.
METHODS: dict[str, tuple[dict[str, Any], int]] = {
    # With what is done otherwise on a GPU.
    "full": (
        {"lr_scheduler": "cosine", "use_ema": True, "ema_decay": 0.9, "channels_last": True, "prefetch": True},
        7,
    ),
    "text encoder": ({"train_text_encoder": True, "gradient_accumulation_steps": 2}, 7),
    "lora and prior": (
        {"use_lora": True, "with_prior_preservation": True, "class_prompt": "a photo", "num_class_images": 2},
        6,
    ),
}


def launch(jobs: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.components.train.killable"],
        input=json.dumps({"jobs": jobs, "seed": seed}),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return result


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Step, file and name → tensor, of all checkpoints of the run whose index is in `out`."""
    index = read_json(out / "checkpoints" / "index.json", CheckpointIndex)
    found: dict[str, torch.Tensor] = {}
    for ref in index.refs():
        if ref.uri is not None:
            folder = out / "trees" / str(ref.step)
            Store.from_env(ref.uri).get_tree(folder)
            for file in sorted(folder.rglob("*.safetensors")):
                found |= {f"{ref.step}/{file.name}/{name}": value for name, value in load_file(file).items()}
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def root(store: Store) -> Store:
    return store.at("test-resume")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def ended(root: Store, crops: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """All jobs of this file, done in one process's forks on a model that is quick to send."""
    base = write_pipeline(folder / "base", widths=(8, 16, 16, 16))

    def job(name: str, settings: dict[str, Any], **how: Any) -> dict[str, Any]:
        arguments = {
            "base_model": str(base),
            "base_revision": "b" * 64,
            "generation": "1",
            "store": root.at(name.replace(" ", "-")).uri,
        }
        settings = {**COMMON, **settings}
        return {"crops": str(crops), "arguments": arguments, "settings": settings, "out": str(folder / name), **how}

    jobs = {
        "twice": job("twice", {}, twice=True),
        # No state would be due before the run ends.
        "asked": job("asked", {"state_every": 1000, "max_train_steps": 24}, kills=1, signal="SIGTERM", after=2),
    }
    for method, (settings, kills) in METHODS.items():
        jobs[f"{method}-whole"] = job(f"{method}-whole", settings)
        jobs[f"{method}-broken"] = job(f"{method}-broken", settings, kills=kills)
    return dict(zip(jobs, launch(list(jobs.values()))))


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_with_the_very_weights_of_an_undisturbed_one(
    ended: dict[str, dict[str, Any]], root: Store, folder: Path, method: str
) -> None:
    broken = ended[f"{method}-broken"]
    assert broken["statuses"] == [-signal.SIGKILL] * METHODS[method][1] + [0]
    # Attempts begin where states are, not at the beginning each time.
    assert broken["began"][-1] > 0
    a, b = (tensors(folder / f"{method}-{way}" / "whole-0") for way in ("whole", "broken"))
    assert same(a, b)
    assert not [info.key for info in root.at(f"{method}-broken".replace(" ", "-")).list() if "/state/" in info.key]


def test_the_moments_are_twenty() -> None:
    assert sum(kills for _, kills in METHODS.values()) == 20


def test_two_of_the_same_run_at_a_time_do_no_damage(
    ended: dict[str, dict[str, Any]], root: Store, folder: Path
) -> None:
    assert ended["twice"]["statuses"] == [0, 0]
    first, second = (tensors(folder / "twice" / name) for name in ("whole-0", "whole-1"))
    assert same(first, second)
    assert {name.partition("/")[0] for name in first} == {"4", "8", "12"}
    [key] = [info.key for info in root.at("twice").list() if info.key.endswith("/index.json")]
    stored = json.loads(root.at("twice").get_bytes(key) or b"")
    for name in ("whole-0", "whole-1"):
        assert json.loads((folder / "twice" / name / "checkpoints" / "index.json").read_text()) == stored


def test_a_run_that_is_asked_to_end_saves_its_state_first(ended: dict[str, dict[str, Any]]) -> None:
    assert ended["asked"]["statuses"] == [128 + signal.SIGTERM, 0]
    assert ended["asked"]["began"][0] == 0
    assert ended["asked"]["began"][1] > 0


def test_how_often_states_are_saved_makes_no_other_run() -> None:
    def made(**settings: Any) -> str:
        return runs.fingerprint("c" * 64, "b" * 64, TrainConfig(**settings))

    usual = made()
    assert made(state_every=7) == usual
    assert made(state_every=0, state_every_minutes=5) == usual
    # Which checkpoints there are, and their bits.
    assert len({usual, made(checkpoints_total_limit=3), made(checkpointing_steps=50), made(num_threads=3)}) == 4


def test_what_computes_by_some_settings_alone_counts_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, eight = TrainConfig(), TrainConfig(use_8bit_adam=True)
    before = [runs.fingerprint("c" * 64, "b" * 64, config) for config in (plain, eight)]
    usual = runs.version
    monkeypatch.setattr(runs, "version", lambda name: "0.1" if name == "bitsandbytes" else usual(name))
    after = [runs.fingerprint("c" * 64, "b" * 64, config) for config in (plain, eight)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_another_trainer_or_library_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig()
    usual = runs.fingerprint("c" * 64, "b" * 64, config)
    assert runs.fingerprint("c" * 64, "b" * 64, config) == usual
    with monkeypatch.context() as patch:
        patch.setattr(runs, "version", lambda name: "0.1")
        assert runs.fingerprint("c" * 64, "b" * 64, config) != usual
    sources = shutil.copytree(Path(runs.__file__).parent, tmp_path / "train")
    monkeypatch.setattr(runs, "__file__", str(sources / "run.py"))
    assert runs.fingerprint("c" * 64, "b" * 64, config) == usual
    (sources / "loop.py").write_text((sources / "loop.py").read_text() + "\n")
    assert runs.fingerprint("c" * 64, "b" * 64, config) != usual
