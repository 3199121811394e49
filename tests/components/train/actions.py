"""What the tests of the train step do: train with few steps, read weights from the store, compare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from components.artifacts import CheckpointIndex, read_json
from components.checkpoints import fetch_checkpoint
from components.storage import Store
from components.train.config import TrainConfig
from components.train.step import train

Train = Callable[..., CheckpointIndex]

SETTINGS: dict[str, Any] = {
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "state_every": 0,
    "num_threads": 1,
}


def call(crops: Path, base: Path, place: Store, out: Path, **settings: Any) -> CheckpointIndex:
    train(
        TrainConfig(**{**SETTINGS, **settings}),
        crops=crops,
        base_model=str(base),
        base_revision="b" * 64,
        generation="1",
        store=place.uri,
        checkpoints=out,
        metrics=out.with_name(out.name + "-metrics"),
        report=out.with_suffix(".html"),
    )
    return read_json(out / "index.json", CheckpointIndex)


def weights(index: CheckpointIndex, step: int, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Component → tensors of a checkpoint, as any reader of the store gets them."""
    ref = next(r for r in index.refs() if r.step == step)
    whole = fetch_checkpoint(index, ref, folder)
    found = {}
    for name in ("unet", "vae", "text_encoder"):
        [file] = (whole / name).glob("*.safetensors")
        found[name] = load_file(file)
    return found


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    assert before.keys() == after.keys()
    return any(not torch.equal(before[k].float(), after[k].float()) for k in before)
