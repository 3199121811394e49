"""The sampler: what it draws, that it draws the same in any batch, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components import sampling
from components.errors import UserError
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration

PROMPTS = ["a pin hole", "a short circuit", "a pin hole"]
SEEDS = [11, 12, 13]


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> sampling.Model:
    return sampling.load(tiny_base, device="cpu")


def drawn(model: sampling.Model, prompts: list[str], seeds: list[int], **options: Any) -> np.ndarray:
    return np.concatenate(list(sampling.generate(model, prompts, seeds, **{"size": 64, "steps": 4, **options})))


def test_images_are_those_of_the_diffusers_pipeline(tiny_base: Path, model: sampling.Model) -> None:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    noise = [torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    theirs = pipeline(
        PROMPTS, latents=torch.stack(noise), num_inference_steps=20, guidance_scale=3.0, output_type="np",
        height=64, width=64,
    ).images  # fmt: skip
    ours = drawn(model, PROMPTS, SEEDS, steps=20, guidance=3.0)
    assert ours.dtype == np.uint8
    assert ours.shape == (3, 64, 64, 3)
    assert np.abs(ours - theirs * 255).max() <= 1.5


def test_an_image_does_not_depend_on_its_batch(model: sampling.Model) -> None:
    together = drawn(model, PROMPTS, SEEDS, batch_size=3)
    for batch_size in (1, 2):
        # Other batch sizes take other code paths in the convolutions: a grey level of rounding.
        apart = drawn(model, PROMPTS, SEEDS, batch_size=batch_size)
        assert np.abs(apart.astype(int) - together).max() <= 2
    assert np.array_equal(together, drawn(model, PROMPTS, SEEDS, batch_size=3))


def test_seed_and_prompt_each_change_the_image(model: sampling.Model) -> None:
    same_prompt = drawn(model, ["a hole", "a hole"], [1, 2])
    assert np.abs(same_prompt[0].astype(int) - same_prompt[1]).mean() > 5
    same_seed = drawn(model, ["a hole", "a scratch on a screw"], [1, 1], guidance=8.0)
    assert not np.array_equal(same_seed[0], same_seed[1])


def test_guidance_of_one_is_the_conditional_model_alone(model: sampling.Model) -> None:
    alone = drawn(model, PROMPTS, SEEDS, guidance=1.0)
    nearly = drawn(model, PROMPTS, SEEDS, guidance=1.0 + 1e-6)
    assert np.abs(alone.astype(int) - nearly).max() <= 2


def exact(time: int, x: torch.Tensor, scheduler: Any, mean: float, deviation: float) -> torch.Tensor:
    """The v-prediction of a perfect model of N(mean, deviation²)."""
    # The schedule that was trained with: at its end there is no signal at all.
    signal = scheduler.alphas_cumprod.double()[time].sqrt() if time < 999 else torch.tensor(0.0)
    noise = (1 - signal**2).sqrt()
    variance = deviation**2
    guess = mean + signal * variance / (signal**2 * variance + noise**2) * (x - signal * mean)
    return signal * (x - signal * guess) / noise - noise * guess


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_solver_is_sound_with_zero_terminal_snr(tiny_base: Path, steps: int) -> None:
    """With a perfect model, samples follow the data; no worse than DDIM with the same model."""
    from diffusers import DDIMScheduler

    deviations = []
    for scheduler in (sampling.solver(tiny_base), DDIMScheduler.from_pretrained(tiny_base, subfolder="scheduler")):
        scheduler.set_timesteps(steps)
        x = torch.randn((20000, 1), generator=torch.Generator().manual_seed(0)).double()
        for time in scheduler.timesteps:
            x = scheduler.step(exact(int(time), x, scheduler, 0.7, 0.5), time, x).prev_sample
        assert torch.isfinite(x).all()
        assert x.mean().item() == pytest.approx(0.7, abs=0.02)
        deviations.append(abs(x.std().item() - 0.5))
    assert deviations[0] < min(deviations[1], 0.1)


def test_solver_keeps_the_model_s_own_schedule(tiny_base: Path, tmp_path: Path) -> None:
    config = sampling.solver(tiny_base).config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    assert config.timestep_spacing == "trailing"

    # As Stable Diffusion 1.5 has it: another class with settings that the solver does not know.
    (tmp_path / "scheduler").mkdir()
    original = {
        "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    }  # fmt: skip
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(original))
    config = sampling.solver(tmp_path).config
    assert (config.prediction_type, config.beta_schedule, config.algorithm_type) == (
        "epsilon", "scaled_linear", "dpmsolver++",
    )  # fmt: skip


def test_an_epsilon_model_draws_too(tmp_path: Path) -> None:
    folder = write_pipeline(
        tmp_path / "epsilon", prediction_type="epsilon", rescale_betas_zero_snr=False, timestep_spacing="leading"
    )
    assert drawn(sampling.load(folder, device="cpu"), ["a hole"], [1]).std() > 1


def test_long_prompts_are_cut_not_refused(model: sampling.Model) -> None:
    assert drawn(model, ["scratch " * 200], [1]).shape == (1, 64, 64, 3)


@pytest.mark.parametrize(("size", "seeds"), [(60, [1]), (64, [1, 2])])
def test_wrong_arguments(model: sampling.Model, size: int, seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="size 60|1 prompts for 2 seeds"):
        next(sampling.generate(model, ["a hole"], seeds, size=size))


def test_weights_that_are_no_numbers(tiny_base: Path) -> None:
    broken = sampling.load(tiny_base, device="cpu")
    with torch.no_grad():
        broken.unet.conv_in.weight.fill_(float("nan"))
    with pytest.raises(sampling.NotFiniteError):
        drawn(broken, ["a hole"], [1])


def test_an_incomplete_folder_is_named(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_base, folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(UserError, match="vae missing"):
        sampling.load(folder)
    shutil.copytree(tiny_base / "vae", folder / "vae")
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace("CrossAttnDownBlock2D", "SpiralBlock"))
    with pytest.raises(UserError, match="cannot be loaded"):
        sampling.load(folder)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_cut_short_are_named(part: str, tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_base, folder)
    [file] = (folder / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UserError, match=rf"{part}/{file.name}: [\d,]+ bytes of the"):
        sampling.load(folder)


def test_a_defect_of_ours_is_not_called_the_models(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> None:
        raise NameError("name 'schedule' is not defined")

    monkeypatch.setattr(sampling, "solver", broken)
    with pytest.raises(NameError):
        sampling.load(tiny_base, "cpu")
