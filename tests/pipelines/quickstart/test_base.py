"""The tiny base model as it is shipped: loads, fits, draws what its captions say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from safetensors import safe_open

from pipelines.quickstart.export_base import crops_of_folder, reconstruction_errors

pytestmark = pytest.mark.integration
BASE = Path(__file__).parents[3] / "pipelines" / "quickstart" / "base"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(BASE, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(pipeline: StableDiffusionPipeline, prompt: str, count: int = 6) -> NDArray[np.float32]:
    """(count, 64, 64, 3) in 0..1."""
    made = pipeline(
        prompt, num_images_per_prompt=count, height=64, width=64, num_inference_steps=12, guidance_scale=2.5,
        generator=torch.Generator().manual_seed(0), output_type="np",
    ).images  # fmt: skip
    return np.asarray(made)


def test_the_folder_is_small_and_complete() -> None:
    files = [p for p in BASE.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 25e6
    assert (BASE / "samples.png").stat().st_size <= 400_000
    names = {str(p.relative_to(BASE)) for p in files}
    assert {"model_index.json", "README.md", "tokenizer/vocab.json", "tokenizer/merges.txt"} <= names


def test_weights_are_finite_safetensors_in_half_precision() -> None:
    for part in ("unet", "vae"):
        with safe_open(BASE / part / "diffusion_pytorch_model.safetensors", framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                tensor = weights.get_tensor(name)
                assert tensor.dtype == torch.float16
                assert torch.isfinite(tensor).all()


def test_parts_agree_on_precision_in_either_one() -> None:
    for dtype in (torch.float32, torch.float16):
        loaded = StableDiffusionPipeline.from_pretrained(BASE, safety_checker=None, torch_dtype=dtype)
        assert {loaded.unet.dtype, loaded.vae.dtype, loaded.text_encoder.dtype} == {dtype}


def test_captions_steer_colour_and_finish(pipeline: StableDiffusionPipeline) -> None:
    green = draw(pipeline, "a photo of a green printed circuit board").mean(axis=(0, 1, 2))
    assert green[1] > green[0] + 0.08
    assert green[1] > green[2] + 0.04
    blue = draw(pipeline, "a photo of a blue printed circuit board").mean(axis=(0, 1, 2))
    assert blue[2] > blue[0] + 0.08
    scan = draw(pipeline, "a scan of a printed circuit board, black copper on white")
    assert ((scan < 0.15) | (scan > 0.85)).mean() > 0.85
    tile = draw(pipeline, "a photo of a metal tile")
    assert np.abs(tile[..., 0] - tile[..., 2]).mean() < 0.08


def test_the_same_seed_draws_the_same_picture(pipeline: StableDiffusionPipeline) -> None:
    first, again = (draw(pipeline, "a photo of a chip", 1) for _ in range(2))
    assert np.array_equal(first, again)


def test_real_scans_survive_the_autoencoder(pipeline: StableDiffusionPipeline, shared_data: Path) -> None:
    errors = reconstruction_errors(pipeline.vae, crops_of_folder(shared_data / "deeppcb", 100))
    assert errors.wrong_percent < 2.5
