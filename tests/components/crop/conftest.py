"""Small data sets in the layouts that the crop step reads, and a call of the step."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.artifacts import CropSet, read_json
from components.crop.config import CropConfig
from components.crop.step import crop


def textured(width: int, height: int, seed: int) -> np.ndarray:
    """An RGB image of noise: no two places are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Boards:
    """A data set in DeepPCB's layout; images are PNG so that pixels can be compared."""

    def __init__(self, root: Path, images: int = 0) -> None:
        self.root = root
        for i in range(images):
            self.add(f"{i:03d}", ["20 30 40 60 1", "100 100 130 120 6"])

    def add(self, stem: str, lines: Sequence[str] | None, size: tuple[int, int] = (200, 160)) -> Path:
        image = self.root / "group1" / "g1" / f"{stem}_test.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured(*size, seed=zlib.crc32(stem.encode()))).save(image)
        if lines is not None:
            self.annotation(stem).parent.mkdir(parents=True, exist_ok=True)
            self.annotation(stem).write_text("\n".join(lines) + "\n")
        return image

    def annotation(self, stem: str) -> Path:
        return self.root / "group1" / "g1_not" / f"{stem}.txt"


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    return Boards(tmp_path / "boards", images=12)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Path, CropSet]]:
    """Run the step on a folder with settings; the crops' folder and its ``crops.json``."""

    def call(dataset: Path, **settings: Any) -> tuple[Path, CropSet]:
        config = CropConfig.model_validate({"resolution": 64, **settings})
        crop(config, str(dataset), "r1", tmp_path / "out" / "crops", tmp_path / "out" / "report.html")
        return tmp_path / "out" / "crops", read_json(tmp_path / "out" / "crops" / "crops.json", CropSet)

    return call
