"""Crops as latents, encoded once.

The VAE's posterior of every view of every crop is computed before training; each step samples from
it afresh, so the VAE's randomness is kept while nothing is decoded or encoded in the loop. A flipped
view is encoded as such, since flipping a latent is not the latent of the flipped image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from components.artifacts import Crop
from components.errors import UserError
from components.progress import Progress

VIEWS = {"none": 1, "flip": 2, "dihedral": 8}


@dataclass(frozen=True)
class LatentSet:
    """Posteriors of all views, on the CPU.

    ``mean`` and ``std`` are float32 [crops, views, 4, height / 8, width / 8], already multiplied by
    the VAE's scaling factor; ``prompt`` is int64 [crops], the index of each crop's prompt in ``prompts``.
    """

    mean: torch.Tensor
    std: torch.Tensor
    prompt: torch.Tensor
    prompts: list[str]

    def __len__(self) -> int:
        return len(self.prompt)


def load_images(folder: Path, crops: Sequence[Crop]) -> np.ndarray:
    """RGB images of `crops`, uint8 [crops, height, width, 3].

    Raises:
        UserError: naming each image that is missing, unreadable or of another size than the first.
    """
    images: list[np.ndarray] = []
    problems: list[str] = []
    for crop in crops:
        path = folder / crop.file_name
        try:
            with Image.open(path) as opened:
                image = np.asarray(opened.convert("RGB"))
        except (OSError, ValueError) as error:
            problems.append(f"{path}: cannot be read ({error}); run crop again")
            continue
        if images and image.shape != images[0].shape:
            problems.append(
                f"{path}: {image.shape[1]}×{image.shape[0]} pixels, the first has another size; run crop again"
            )
            continue
        images.append(image)
    if problems:
        raise UserError(*problems[:20])
    return np.stack(images)


def view(images: torch.Tensor, index: int) -> torch.Tensor:
    """View `index` (0 to 7) of images [n, c, h, w]: odd ones mirrored, then index // 2 quarter turns."""
    mirrored = images.flip(-1) if index % 2 else images
    return torch.rot90(mirrored, index // 2, dims=(-2, -1))


@torch.inference_mode()
def encode(
    vae: Any,
    images: np.ndarray,
    crops: Sequence[Crop],
    augment: str,
    device: torch.device,
    batch_size: int = 32,
) -> LatentSet:
    """Encode every view of `images` with `vae` (an ``AutoencoderKL``)."""
    factor = vae.config.scaling_factor
    views = VIEWS[augment]
    progress = Progress("encoding crops", len(images) * views, "view")
    means, stds = [], []
    for start in range(0, len(images), batch_size):
        pixels = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2).to(device, torch.float32)
        pixels = pixels / 127.5 - 1
        posteriors = [vae.encode(view(pixels, k)).latent_dist for k in range(views)]
        means.append(torch.stack([p.mean * factor for p in posteriors], 1).cpu())
        stds.append(torch.stack([p.std * factor for p in posteriors], 1).cpu())
        progress.update(min(start + batch_size, len(images)) * views)
    prompts = sorted({crop.text for crop in crops})
    return LatentSet(
        torch.cat(means).clone(),
        torch.cat(stds).clone(),
        torch.tensor([prompts.index(crop.text) for crop in crops]),
        prompts,
    )
