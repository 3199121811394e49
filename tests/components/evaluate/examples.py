"""What evaluate is given: settings, a crop set, and a run's checkpoints in the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from components.artifacts import SPLITS, CheckpointIndex, CheckpointRef, Crop, CropSet, write_crops, write_json
from components.evaluate.config import EvaluateConfig
from components.storage import Store

SIDE = 64
PROMPTS = {"bar": "a photo of a bar", "pin hole": "a photo of a pin hole"}
CONFIG = EvaluateConfig(images_per_class=6, num_inference_steps=3, batch_size=4, images_kept=5, num_threads=1)
COUNTS = {name: {"train": 6, "reference": 5} for name in PROMPTS}


def bar(random: np.random.Generator) -> np.ndarray:
    """A dark bar on grey, uint8 ``[64, 64, 3]``."""
    image = random.normal(170, 6, (SIDE, SIDE, 3))
    top = random.integers(8, 40)
    image[top : top + 12] -= 120
    return image.clip(0, 255).astype(np.uint8)


def hole(random: np.random.Generator) -> np.ndarray:
    """A light disc on dark, uint8 ``[64, 64, 3]``."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = random.integers(20, 44, 2)
    disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < random.integers(5, 12) ** 2
    image = random.normal(50, 6, (SIDE, SIDE, 3)) + 180 * disc[..., None]
    return image.clip(0, 255).astype(np.uint8)


DRAWN: dict[str, Callable[[np.random.Generator], np.ndarray]] = {"bar": bar, "pin hole": hole}


def write_crop_set(folder: Path, counts: Mapping[str, Mapping[str, int]], digest: str = "d" * 64) -> Path:
    """The crop step's output: class → split → number of crops, every crop of a source image of its own."""
    random = np.random.default_rng(0)
    for split in SPLITS:
        crops = []
        for name, numbers in counts.items():
            for i in range(numbers[split]):
                file_name = f"images/{name.replace(' ', '-')}/{i:03d}.png"
                path = folder / split / file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(DRAWN[name](random)).save(path)
                source = f"{split}-{name}-{i}.png"
                crops.append(Crop(file_name, PROMPTS[name], name, source, (0, 0, 64, 64), (8, 8, 56, 56)))
        write_crops(folder, split, crops)
    prompts = {name: PROMPTS[name] for name in counts}
    data = {name: dict(numbers) for name, numbers in counts.items()}
    write_json(folder / "crops.json", CropSet(SIDE, sorted(counts), prompts, data, digest, "drawn", "r" * 64))
    return folder


def publish_run(
    store: Store, base: Path, folder: Path, prompts: Mapping[str, str], changes: Mapping[int, Callable[[Any], None]],
    digest: str = "d" * 64, settings: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Publish `base` and a checkpoint for each step whose function changes its UNet; the index's folder."""
    from diffusers import UNet2DConditionModel

    base_tree = store.at("base-models", "tiny")
    base_tree.put_tree(base)
    refs = [CheckpointRef(0, None, [])]
    for step, change in changes.items():
        unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
        change(unet)
        unet.save_pretrained(folder / f"weights-{step}" / "unet")
        tree = store.at("train", "f" * 16, f"step-{step:06d}")
        tree.put_tree(folder / f"weights-{step}")
        refs.append(CheckpointRef(step, tree.uri, ["unet"], images_seen=step * 4))
    index = CheckpointIndex(
        fingerprint="f" * 16,
        base_uri=base_tree.uri,
        base_model="tiny",
        base_revision="b" * 64,
        crops_digest=digest,
        resolution=SIDE,
        prompts=dict(prompts),
        checkpoints=[dataclasses.asdict(ref) for ref in refs],
        settings=dict(settings or {}),
    )
    write_json(folder / "checkpoints" / "index.json", index)
    return folder / "checkpoints"


def same(unet: Any) -> None:
    """No change: the base under another step."""


def shifted(unet: Any) -> None:
    with torch.no_grad():
        unet.conv_out.bias.add_(torch.tensor([0.8, -0.8, 0.8, -0.8]))


def diverged(unet: Any) -> None:
    with torch.no_grad():
        unet.conv_in.weight.fill_(float("nan"))
