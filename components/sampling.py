"""Images from a Stable Diffusion folder: the sampler that steps share.

Covers Stable Diffusion 1.x and 2.x, in diffusers' layout and as one file in the original's, text to image, offline,
without a safety checker (it knows nothing of industrial parts). Every image has its own seed, so that what is drawn
does not depend on the batch it is drawn in. A UNet that inpaints is let paint the whole image. Not covered: image to
image, painting a part, other schedulers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.base_model import contents
from components.base_model.layout import COMPONENTS, files_of, schedule_problem
from components.checkpoint_file import read_ckpt
from components.errors import UserError

#: Pixels that the VAE decodes at once: its activations are the largest of the whole pipeline.
_DECODED_PIXELS = 512 * 512
# What diffusers knows, and says only while an image is drawn.
_PREDICTIONS, _SPACINGS = ("epsilon", "v_prediction", "sample"), ("linspace", "leading", "trailing")
# Errors that no damaged file makes a library raise: the machine's, or ours.
_NOT_THE_FILES = (MemoryError, torch.OutOfMemoryError, NameError, ImportError, AssertionError)


class NotFiniteError(ArithmeticError):
    """The model's weights or predictions are no numbers; it draws nothing."""


@dataclass(frozen=True)
class Model:
    """The parts of a Stable Diffusion pipeline, in evaluation mode on one device."""

    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    scheduler: Any  #: `DPMSolverMultistepScheduler` with the model's own noise schedule
    device: torch.device


def load(folder: Path, device: str | None = None) -> Model:
    """Load a complete diffusers folder; weights come from safetensors only.

    On a CPU the model is float32, since half precision is slower there; on a GPU it is float16 but for
    the VAE, which overflows in it. `device` is a GPU where there is one, if not given.

    Raises:
        UserError: when a part, or some of its weights, is missing or cannot be read.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    where = _device(device)
    dtype = torch.float16 if where.type == "cuda" else torch.float32
    missing = [p for p in COMPONENTS if not (folder / p).is_dir()]
    if missing:
        raise UserError(f"{folder}: {', '.join(missing)} missing; it should be a diffusers folder, run train again")
    contents.check(files_of(folder), str(folder))
    offline: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}

    def network_of(kind: Any, part: str, **types: torch.dtype) -> Any:
        """A part with weights, all of which the folder holds."""
        network, found = kind.from_pretrained(folder / part, output_loading_info=True, **types, **offline)
        contents.refuse_missing(found["missing_keys"], f"{folder}/{part}")
        return network

    try:
        text_encoder = network_of(CLIPTextModel, "text_encoder", dtype=dtype)
        unet = network_of(UNet2DConditionModel, "unet", torch_dtype=dtype)
        vae = network_of(AutoencoderKL, "vae", torch_dtype=torch.float32)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        scheduler = solver(folder)
    except (*_NOT_THE_FILES, UserError):
        raise
    except Exception as error:
        # A damaged config makes these libraries raise errors of every kind.
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}: cannot be loaded ({said}); copy the model again, or run train again") from None
    return _ready(tokenizer, text_encoder, unet, vae, scheduler, where)


def load_file(file: Path, config: Path, device: str | None = None) -> Model:
    """Load one `.safetensors` or `.ckpt` file in the original Stable Diffusion key layout, offline.

    Args:
        file: the weights.
        config: everything of a diffusers folder but the weights; an autoencoder's, where the file holds none.
        device: as for `load`, and so are the types.

    Raises:
        UserError: when the file does not hold what `config` describes, or more than tensors.
    """
    where = _device(device)
    loaded = pipeline_of(file, config, torch.float16 if where.type == "cuda" else torch.float32)
    try:
        scheduler = solver(config)
    except _NOT_THE_FILES:
        raise
    except Exception as error:
        raise UserError(f"{config}: its scheduler cannot be used ({error}); copy the configuration again") from None
    return _ready(loaded.tokenizer, loaded.text_encoder, loaded.unet, loaded.vae, scheduler, where)


def pipeline_of(file: Path, config: Path, dtype: torch.dtype, autoencoder: Path | None = None) -> Any:
    """The `StableDiffusionPipeline` of one file in the original key layout, offline, on the CPU.

    Args:
        file: `.safetensors` or `.ckpt`.
        config: diffusers folder that describes the model.
        autoencoder: diffusers folder with the one to take where `file` holds none; `config`, if not given.

    Raises:
        UserError: when the file does not hold what `config` describes, or more than tensors.
    """
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    names, given, autoencoder = _names(file), {}, autoencoder or config
    if any(name.startswith("lora_") for name in names):
        raise UserError(
            f"{file}: a LoRA alone, which draws on its base model only; load it there with load_lora_weights, or "
            "publish the model whole (convert.lora merged or both)"
        )
    try:
        if not any(name.startswith("first_stage_model.") for name in names):
            if not any((autoencoder / "vae").glob("*.safetensors")):
                raise UserError(
                    f"{file}: holds no autoencoder (convert.include_vae false); copy its base model's "
                    f"vae/diffusion_pytorch_model.safetensors to {autoencoder / 'vae'}"
                )
            given["vae"] = AutoencoderKL.from_pretrained(
                autoencoder, subfolder="vae", use_safetensors=True, local_files_only=True
            )
        loaded = StableDiffusionPipeline.from_single_file(
            str(file), config=str(config), torch_dtype=dtype, local_files_only=True, safety_checker=None, **given
        )
    except NotImplementedError:
        # diffusers' way to say that a part of the network got no weights.
        raise UserError(
            f"{file}: tensors missing; the file is not complete, or the configuration another model's"
        ) from None
    except (*_NOT_THE_FILES, UserError):
        raise
    except Exception as error:
        raise UserError(
            f"{file}: cannot be loaded with the configuration in {config} ({type(error).__name__}: {error}); is it the "
            "configuration of this model?"
        ) from None
    parts = (loaded.text_encoder, loaded.unet, loaded.vae)
    absent = sorted({n for part in parts for n, tensor in part.state_dict().items() if tensor.is_meta})
    if absent:
        raise UserError(f"{file}: {len(absent)} tensors missing ({absent[0]}, …); the file is not complete")
    return loaded


def _names(file: Path) -> set[str]:
    """The tensors in a file."""
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".ckpt":
        return set(read_ckpt(file))
    try:
        with safe_open(file, framework="np") as opened:
            return set(opened.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable .safetensors file ({error}); copy it again") from None


def _device(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _ready(tokenizer: Any, text_encoder: Any, unet: Any, vae: Any, scheduler: Any, where: torch.device) -> Model:
    for part in (text_encoder, unet, vae):
        part.eval().requires_grad_(False).to(where)
    vae.to(torch.float32)
    return Model(tokenizer, text_encoder, unet, vae, scheduler, where)


def solver(folder: Path) -> Any:
    """DPM-Solver++ (Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling", second order,
    multistep) with the noise schedule, prediction type and spacing of the model's own scheduler.

    It holds with zero terminal SNR as well: the first sigma is then 4096 instead of infinite, as good as
    noise alone, and with an exact denoiser it comes closer to the data's distribution than DDIM does.
    """
    from diffusers import DPMSolverMultistepScheduler

    config = DPMSolverMultistepScheduler.load_config(folder, subfolder="scheduler", local_files_only=True)
    prediction, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing", "linspace")
    if problem := schedule_problem(config):
        raise ValueError(f"its scheduler is {problem}")
    if prediction not in _PREDICTIONS or spacing not in _SPACINGS:
        raise ValueError(f"its scheduler has prediction_type {prediction!r} and timestep_spacing {spacing!r}")
    # Settings that choose another algorithm belong to the scheduler that the folder names, not to this one.
    kept = {
        key: config[key]
        for key in (
            "num_train_timesteps",
            "beta_start",
            "beta_end",
            "beta_schedule",
            "trained_betas",
            "prediction_type",
            "timestep_spacing",
            "steps_offset",
            "rescale_betas_zero_snr",
        )
        if key in config
    }
    return DPMSolverMultistepScheduler(**kept)


def generate(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    size: int,
    steps: int = 20,
    guidance: float = 3.0,
    batch_size: int = 16,
) -> Iterator[np.ndarray]:
    """Draw one image for each prompt and its seed, a batch at a time.

    Image i starts from noise of its own seed, made on the CPU, so it is the same in any batch and on any
    device but for rounding. Classifier-free guidance (Ho & Salimans 2022, "Classifier-Free Diffusion
    Guidance") is off at a `guidance` of 1.

    Args:
        prompts: one text for an image; cut at the tokenizer's length.
        seeds: as many, 0 to 2**64 - 1.
        size: side of the square images in pixels, a multiple of the VAE's downscaling.

    Yields:
        uint8 ``[batch, size, size, 3]``, in the order of the prompts.

    Raises:
        ValueError: for lengths that differ, or a size that the VAE cannot make.
        NotFiniteError: when the model draws NaN or infinity.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts for {len(seeds)} seeds")
    scale = 2 ** (len(model.vae.config.block_out_channels) - 1)
    if size % scale:
        raise ValueError(f"size {size} is no multiple of the VAE's downscaling, {scale}")
    texts = _encode(model, ["", *dict.fromkeys(prompts)])
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        noise = _noise(model, seeds[batch], size // scale)
        with torch.inference_mode():
            latents = _denoise(model, noise, texts, prompts[batch], steps, guidance)
            if not torch.isfinite(latents).all():
                raise NotFiniteError("the model predicts values that are no numbers")
            yield _decode(model, latents, size)


def _encode(model: Model, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Text → its states ``[tokens, width]``."""
    tokens = model.tokenizer(
        list(texts),
        padding="max_length",
        max_length=model.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    # As diffusers' pipeline decides it: Stable Diffusion itself was trained without a mask.
    masked = getattr(model.text_encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(model.device) if masked else None
    with torch.inference_mode():
        states = model.text_encoder(tokens.input_ids.to(model.device), attention_mask=mask)[0]
    return dict(zip(texts, states))


def _noise(model: Model, seeds: Sequence[int], side: int) -> torch.Tensor:
    shape = (model.vae.config.latent_channels, side, side)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(model.device)


def _denoise(
    model: Model,
    noise: torch.Tensor,
    texts: dict[str, torch.Tensor],
    prompts: Sequence[str],
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Latents ``[batch, channels, side, side]``, float32."""
    scheduler, guided = model.scheduler, guidance != 1
    scheduler.set_timesteps(steps)
    context = torch.stack([texts[prompt] for prompt in prompts])
    if guided:
        context = torch.cat([texts[""].expand_as(context), context])
    latents = noise * scheduler.init_noise_sigma
    shown = _shown(model, latents)
    for time in scheduler.timesteps:
        given = torch.cat([scheduler.scale_model_input(latents, time), shown], 1)
        given = torch.cat([given, given]) if guided else given
        predicted = model.unet(given.to(context.dtype), time, encoder_hidden_states=context).sample.float()
        if guided:
            without, with_prompt = predicted.chunk(2)
            predicted = without + guidance * (with_prompt - without)
        latents = scheduler.step(predicted, time, latents).prev_sample
    return latents


def _shown(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """What the UNet is given beside the latents: nothing, or where it inpaints, a mask over a whole grey image.

    ``[batch, 0 or 5, side, side]``.
    """
    batch, channels, side, _ = latents.shape
    if model.unet.config.in_channels == channels:
        return latents[:, :0]
    scale = 2 ** (len(model.vae.config.block_out_channels) - 1)
    grey = latents.new_zeros(1, model.vae.config.in_channels, side * scale, side * scale)
    blank = model.vae.encode(grey).latent_dist.mode() * model.vae.config.scaling_factor
    return torch.cat([torch.ones_like(latents[:, :1]), blank.expand(batch, -1, -1, -1)], 1)


def _decode(model: Model, latents: torch.Tensor, size: int) -> np.ndarray:
    """uint8 ``[batch, size, size, 3]``."""
    at_once = max(1, _DECODED_PIXELS // size**2)
    parts = []
    for part in (latents / model.vae.config.scaling_factor).split(at_once):
        decoded = model.vae.decode(part).sample
        if not torch.isfinite(decoded).all():
            raise NotFiniteError("the VAE decodes to values that are no numbers")
        pixels = ((decoded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        parts.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)
