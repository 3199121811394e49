"""Prior preservation: images of a class as the base model draws it, trained on beside the crops.

Ruiz et al. 2023, "DreamBooth": so that fine-tuning on a few images does not make the model forget what it knew. The
images are drawn once and kept in the store, for every run on the same base that asks for the same.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components import sampling
from components.artifacts import CropSet
from components.errors import UserError
from components.progress import Progress, log
from components.storage import Store, digest_of
from components.train import data
from components.train.config import TrainConfig
from components.train.model import BaseModel

_STEPS, _GUIDANCE = 20, 3.0


def class_latents(
    base: BaseModel,
    folder: Path,
    config: TrainConfig,
    crops: CropSet,
    base_revision: str,
    store: Store,
    device: torch.device,
) -> data.LatentSet:
    """Latents of the class images, from the store or drawn by `base`, which lies in `folder`, and stored.

    Raises:
        UserError: where the class prompt is one that the crops are trained with, and for a base that draws nothing.
    """
    prompt = config.class_prompt
    assert prompt is not None
    same = [name for name, text in crops.prompts.items() if text.strip().lower() == prompt.strip().lower()]
    if same:
        raise UserError(
            f"train.class_prompt {prompt!r} is the prompt of {', '.join(same)} too: what is to be learned would be "
            "preserved as it is. Name what the images show without the defect"
        )
    count, size = config.num_class_images, crops.resolution
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
        images = np.stack([np.asarray(Image.open(path)) for path in sorted(Path(temporary).glob("*.png"))])
    # There is no defect to paint: an inpainting UNet draws them whole.
    masks = np.ones(images.shape[:3], dtype=bool) if base.inpaints else None
    return data.encode(base.vae, images, [prompt] * count, config.augment, device, masks)


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
        drawn = sampling.generate(model, [prompt] * count, range(count), size=size, steps=_STEPS, guidance=_GUIDANCE)
        for batch in drawn:
            for pixels in batch:
                Image.fromarray(pixels).save(into / f"{done:06d}.png")
                done += 1
            progress.update(done)
    except sampling.NotFiniteError as error:
        raise UserError(f"the base model is broken: {error}; mirror it again") from None
