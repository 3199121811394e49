"""Prior preservation: images of a class, as the base model draws it or as it is without a defect, beside the crops.

Ruiz et al. 2023, "DreamBooth": so that fine-tuning on a few images does not make the model forget what it knew. Drawn
images are kept in the store, for every run on the same base that asks for the same; defect-free crops are the crop
step's, and teach the model what the product looks like where nothing is wrong with it.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components import artifacts, sampling
from components.artifacts import NORMAL, Crop, CropSet
from components.decoding import read
from components.errors import UserError
from components.progress import Progress, log
from components.storage import Store, digest_of
from components.train import data
from components.train.config import TrainConfig
from components.train.model import BaseModel

_STEPS, _GUIDANCE = 20, 3.0
#: Images, and their pixels, that are drawn at once: the float32 UNet shares a GPU with them.
_DRAWN, _DRAWN_PIXELS = 16, 4 * 512 * 512


def class_latents(
    base: BaseModel,
    folder: Path,
    config: TrainConfig,
    crops: Path,
    crop_set: CropSet,
    base_revision: str,
    store: Store,
    device: torch.device,
) -> data.LatentSet:
    """Latents of the class images: crops without a defect, or drawn by `base`, which lies in `folder`, and stored.

    Raises:
        UserError: where there are no defect-free crops, and for a base that draws nothing.
    """
    prompt = config.class_prompt
    assert prompt is not None
    if config.class_images == "crops":
        images = _defect_free(crops)
    else:
        images = _drawn(base, folder, config, crop_set.resolution, base_revision, store, device)
    # There is no defect to paint: an inpainting UNet draws them whole.
    masks = np.ones(images.shape[:3], dtype=bool) if base.inpaints else None
    return data.encode(base.vae, images, [prompt] * len(images), config.augment, device, masks)


def refuse_the_crops_own(prompt: str, crops: Sequence[Crop]) -> None:
    """Refuse a class prompt that crops are trained with.

    Raises:
        UserError: naming their classes.
    """
    same = sorted({crop.defect for crop in crops if crop.text.strip().lower() == prompt.strip().lower()})
    if same:
        raise UserError(
            f"train.class_prompt {prompt!r} is the prompt of {', '.join(same)} too: what is to be learned would be "
            "preserved as it is. Name what the images show without the defect"
        )


def _defect_free(crops: Path) -> np.ndarray:
    folder = crops / NORMAL
    listed = artifacts.read_crops(folder, "train") if folder.is_dir() else []
    if not listed:
        raise UserError(
            "train.class_images: crops, but there are none without a defect; set crop.normal_per_image to 1 or more "
            "(images need room beside their defects), or let the base model draw them: train.class_images: draw"
        )
    return data.load_images(folder / "train", listed)


def _drawn(
    base: BaseModel,
    folder: Path,
    config: TrainConfig,
    size: int,
    base_revision: str,
    store: Store,
    device: torch.device,
) -> np.ndarray:
    """The images from the store, or drawn and put there; uint8 [num_class_images, size, size, 3]."""
    prompt, count = config.class_prompt or "", config.num_class_images
    made_of = [base_revision, prompt, size, count, _STEPS, _GUIDANCE, torch.__version__, device.type]
    place = store.at("class-images", digest_of(made_of)[:16])
    tree = next((tree for name in place.folders() if (tree := place.at(name)).manifest() is not None), None)
    with tempfile.TemporaryDirectory(prefix="class-") as temporary:
        if tree is None:
            _draw(base, folder, prompt, count, size, device, Path(temporary))
            # A part of its own: what a killed attempt left behind may differ in the last digits.
            tree = place.at(uuid.uuid4().hex[:8])
            tree.put_tree(Path(temporary), {"step": "train", "prompt": prompt, "base_revision": base_revision})
            log(f"{count} class images published to {tree.uri}")
        else:
            tree.get_tree(Path(temporary))
        return np.stack([np.asarray(read(path, "RGB")) for path in sorted(Path(temporary).glob("*.png"))])


def at_once(size: int) -> int:
    """How many images of `size` pixels are drawn at once."""
    return max(1, min(_DRAWN, _DRAWN_PIXELS // size**2))


def _draw(base: BaseModel, folder: Path, prompt: str, count: int, size: int, device: torch.device, into: Path) -> None:
    model = sampling.Model(
        base.tokenizer,
        base.text_encoder.to(device),
        base.unet.to(device),
        base.vae,
        sampling.solver(folder),
        device,
    )
    progress, done = Progress("drawing class images", count, "image"), 0
    try:
        drawn = sampling.generate(
            model, [prompt] * count, range(count), size=size, steps=_STEPS, guidance=_GUIDANCE, batch_size=at_once(size)
        )
        for batch in drawn:
            for pixels in batch:
                Image.fromarray(pixels).save(into / f"{done:06d}.png")
                done += 1
            progress.update(done)
    except sampling.NotFiniteError as error:
        raise UserError(f"the base model is broken: {error}; mirror it again") from None
