"""Two folders of images, measured by the command line without a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.__main__ import main
from components.evaluate import metrics
from components.extractor import Lite0
from tests.components.evaluate.examples import bar, hole


def write(folder: Path, images: list[np.ndarray]) -> Path:
    for i, image in enumerate(images):
        path = folder / ("a" if i % 2 else "b") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn bars; bars to hold them against; bars trained on, one of which was copied."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("folders")
    train = [bar(random) for _ in range(8)]
    write(root / "train", train)
    write(root / "reference", [bar(random) for _ in range(8)])
    write(root / "images", [train[3], *(hole(random) for _ in range(8)), np.zeros((40, 90, 3), np.uint8)])
    return root


def test_every_metric_of_two_folders(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--{name}={folders / name}" for name in ("images", "reference", "train")]
    assert main(["evaluate", *flags, f"--output={tmp_path}", "--set", "num_threads=1"]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    values = found["metrics"]
    extractor = Lite0("cpu")

    def features(name: str) -> np.ndarray:
        paths = sorted((folders / name).rglob("*.png"))
        return np.concatenate([extractor.features(np.asarray(Image.open(path))[None]) for path in paths])

    ours = metrics.kernel_distance(features("images"), features("reference"))
    assert values["kd_lite0"]["value"] == pytest.approx(ours.value, rel=1e-4)
    assert (values["kd_lite0"]["n"], values["kd_lite0"]["m"]) == (10, 8)
    assert values["memorised"]["value"] == values["memorised_pixels"]["value"] == pytest.approx(0.1)
    assert {"fd_lite0", "precision_lite0", "coverage_lite0", "diversity_lite0", "is_lite0"} <= set(values)
    assert "give evaluate.inception" in found["absent"]["fid"]
    said = capsys.readouterr().out
    assert "kd_lite0 × 10³" in said
    assert "fid is not measured" in said


def test_mistakes_end_in_one_message(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", "--images", str(tmp_path / "empty"), "--reference", str(folders / "reference")]) == 2
    assert "0 images in it, 3 are needed" in capsys.readouterr().err
    torn = write(tmp_path / "torn", [bar(np.random.default_rng(1))] * 4)
    path = next(torn.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:900])
    assert main(["evaluate", f"--images={torn}", f"--reference={folders / 'reference'}"]) == 2
    assert f"{path}: cannot be decoded (image file is truncated)" in capsys.readouterr().err
