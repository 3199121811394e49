"""One small image from each of two models with the same noise: what differs there, differs in the models.

Both are drawn in float32, so that equal weights give equal images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.convert.mismatch import Mismatch

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

#: Largest mean difference of the two images, in levels of 255, by the file's type. Equal weights give
#: equal images; rounded ones move them (by 0.03 levels as fp16 and 0.3 as bf16 in a tiny random model, more
#: in a trained one), while a wrong scheduler or a wrong weight moves them by tens.
TOLERANCE = {"fp32": 0.01, "fp16": 4.0, "bf16": 16.0}

_STEPS, _SEED = 3, 0


def load_checkpoint(folder: Path) -> StableDiffusionPipeline:
    """A diffusers folder as a pipeline, in float32."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline


def difference(file: str, written: np.ndarray, original: np.ndarray, dtype: str) -> float:
    """The mean absolute difference of two images in levels of 255, the first of them drawn by `file`.

    Raises:
        Mismatch: when it exceeds `TOLERANCE`.
    """
    found = float(np.abs(written - original).mean() * 255)
    # Written so that NaN fails.
    if not found <= TOLERANCE[dtype]:
        raise Mismatch(
            f"{file}: an image generated from it differs from the checkpoint's by {found:.2f} of 255 levels on "
            f"average, more than {TOLERANCE[dtype]} for {dtype}"
        )
    return found


def draw(pipeline: Any, prompt: str) -> np.ndarray:
    """One image in [0, 1], shape [height, width, 3]: few steps and small, enough to tell two models apart.

    A UNet that inpaints paints the whole of a grey image.
    """
    # The smallest latent that every level of the UNet can halve, or two of them.
    least = 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    side = 2 * least * pipeline.vae_scale_factor
    given: dict[str, Any] = {}
    if pipeline.unet.config.in_channels != pipeline.vae.config.latent_channels:
        from diffusers import StableDiffusionInpaintPipeline

        pipeline = StableDiffusionInpaintPipeline.from_pipe(pipeline)
        given = {"image": torch.zeros(1, 3, side, side), "mask_image": torch.ones(1, 1, side, side)}
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(
        prompt,
        **given,
        height=side,
        width=side,
        num_inference_steps=_STEPS,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(_SEED),
        output_type="np",
    )
    image: np.ndarray = result.images[0]
    return image
