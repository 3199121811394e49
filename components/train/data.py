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
import torch.nn.functional as F

from components.artifacts import Crop
from components.decoding import required
from components.errors import UserError
from components.progress import Progress

VIEWS = {"none": 1, "flip": 2, "dihedral": 8}

#: Pixels that the VAE encodes at once: its activations at 512 px are as large as a UNet.
_ENCODED_PIXELS = 512 * 512


@dataclass(frozen=True)
class Hidden:
    """What an inpainting UNet is shown of each view: where it is to paint, and the image without that.

    ``mask`` is float32 [crops, views, 1, height / 8, width / 8], 1 where any of the defect is; ``mean`` and ``std`` are
    as in `LatentSet`, of the image with the masked pixels grey; ``blank`` is the latent of a grey image, [4, …].
    """

    mask: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    blank: torch.Tensor


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
    hidden: Hidden | None = None  #: for UNets that inpaint

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
            image = np.asarray(required(path, "RGB", "run crop again"))
        except UserError as error:
            problems += error.problems
            continue
        if images and image.shape != images[0].shape:
            problems.append(
                f"{path}: {image.shape[1]}×{image.shape[0]} pixels, the first has another size; run crop again"
            )
            continue
        images.append(image)
    if problems:
        raise UserError(*problems)
    return np.stack(images)


def view(images: torch.Tensor, index: int) -> torch.Tensor:
    """View `index` (0 to 7) of images [n, c, h, w]: odd ones mirrored, then index // 2 quarter turns."""
    mirrored = images.flip(-1) if index % 2 else images
    return torch.rot90(mirrored, index // 2, dims=(-2, -1))


def load_masks(folder: Path, crops: Sequence[Crop], side: int) -> np.ndarray:
    """Masks of the defects, bool [crops, side, side]: the crop's own mask, or its box where it has none.

    Raises:
        UserError: for a mask that cannot be read or is of another size.
    """
    masks = np.zeros((len(crops), side, side), dtype=bool)
    for mask, crop in zip(masks, crops):
        if crop.mask_file_name is None:
            x0, y0, x1, y1 = crop.box
            mask[y0:y1, x0:x1] = True
            continue
        path = folder / crop.mask_file_name
        pixels = np.asarray(required(path, "L", "run crop again"))
        if pixels.shape != mask.shape:
            raise UserError(
                f"{path}: {pixels.shape[1]}×{pixels.shape[0]} pixels, its crop has {side}×{side}; run crop again"
            )
        mask[:] = pixels > 127
    return masks


def latent_mask(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Masks as large as latents: 1 in every cell that a masked pixel lies in, so that no small or thin one is lost.

    Args:
        mask: bool [n, 1, height, width].
        size: height and width of the latents.

    Returns:
        float32 [n, 1, *size].
    """
    return F.adaptive_max_pool2d(mask.float(), (size[0], size[1]))


def at_once(count: int, height: int, width: int) -> int:
    """How many of `count` images are encoded at once."""
    return max(1, min(count, _ENCODED_PIXELS // (height * width)))


@torch.no_grad()
def encode(
    vae: Any,
    images: np.ndarray,
    texts: Sequence[str],
    augment: str,
    device: torch.device,
    masks: np.ndarray | None = None,
    batch_size: int = 32,
) -> LatentSet:
    """Encode every view of `images` with `vae` (an ``AutoencoderKL``).

    Args:
        images: uint8 [n, height, width, 3].
        texts: each image's prompt.
        masks: bool [n, height, width], for a UNet that inpaints.
        batch_size: images at once, where they are small; of large ones as many as the memory of a small GPU allows.
    """
    views = VIEWS[augment]
    batch_size = at_once(batch_size, *images.shape[1:3])
    progress = Progress("encoding crops", len(images) * views, "view")
    means, stds, masked_means, masked_stds, shown = [], [], [], [], []
    for start in range(0, len(images), batch_size):
        pixels = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2).to(device, torch.float32)
        pixels = pixels / 127.5 - 1
        mean, std = _posteriors(vae, [view(pixels, k) for k in range(views)])
        means.append(mean)
        stds.append(std)
        if masks is not None:
            mask = torch.from_numpy(masks[start : start + batch_size]).to(device)[:, None]
            rest = pixels.masked_fill(mask, 0.0)
            mean, std = _posteriors(vae, [view(rest, k) for k in range(views)])
            masked_means.append(mean)
            masked_stds.append(std)
            small = latent_mask(mask, mean.shape[-2:])
            shown.append(torch.stack([view(small, k) for k in range(views)], 1).cpu())
        progress.update(min(start + batch_size, len(images)) * views)
    hidden = None
    if masks is not None:
        blank = _posteriors(vae, [torch.zeros_like(pixels[:1])])[0][0, 0]
        hidden = Hidden(torch.cat(shown), torch.cat(masked_means), torch.cat(masked_stds), blank)
    prompts = sorted(set(texts))
    return LatentSet(
        torch.cat(means), torch.cat(stds), torch.tensor([prompts.index(text) for text in texts]), prompts, hidden
    )


def _posteriors(vae: Any, views: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation, [n, views, 4, height / 8, width / 8], of [n, 3, height, width] a view; on the CPU."""
    found, factor = [vae.encode(pixels).latent_dist for pixels in views], vae.config.scaling_factor
    mean, std = (torch.stack([getattr(p, name) * factor for p in found], 1).cpu() for name in ("mean", "std"))
    return mean, std
