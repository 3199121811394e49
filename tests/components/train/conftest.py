"""Crops of two plain classes, written as the crop step writes them, and a run with them in a place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from components.artifacts import CheckpointIndex, Crop, CropSet, write_crops, write_json
from components.storage import Store
from tests.components.train.actions import Train, call


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


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the first precision it was asked for, for the life of the process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def place(store: Store, request: pytest.FixtureRequest) -> Store:
    """A prefix of the test's own."""
    return store.at("test-train", request.node.name)


@pytest.fixture
def run(crops: Path, tiny_base: Path, place: Store, tmp_path: Path) -> Train:
    def run(base: Path = tiny_base, folder: str = "out", **settings: Any) -> CheckpointIndex:
        return call(crops, base, place, tmp_path / folder, **settings)

    return run
