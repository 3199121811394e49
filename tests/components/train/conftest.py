"""Crops of two plain classes, written as the crop step writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.artifacts import Crop, CropSet, write_crops, write_json


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    random = np.random.default_rng(0)
    for split in ("train", "reference"):
        listed = []
        for i in range(6):
            name = ("dark", "light")[i % 2]
            pixels = random.integers(0, 60, (64, 64, 3)) + 160 * (i % 2)
            file = f"images/{name}/{i}.png"
            (folder / split / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / split / file)
            listed.append(Crop(file, f"a photo of {name}", name, f"{split}{i}.png", (0, 0, 64, 64), (20, 20, 40, 40)))
        write_crops(folder, split, listed)
    write_json(
        folder / "crops.json",
        CropSet(
            resolution=64,
            classes=["dark", "light"],
            prompts={name: f"a photo of {name}" for name in ("dark", "light")},
            counts={name: {"train": 3, "reference": 3} for name in ("dark", "light")},
            digest="c" * 64,
            dataset="drawn",
            dataset_revision="d" * 64,
        ),
    )
    return folder
