"""Load the written file back as a user would, and hold it against the checkpoint it was made from.

Nothing here shares code with the writer's key layout: diffusers' own single-file loader reads the
file, offline. A difference is a defect of this step (or a disk that lies), hence `Mismatch`, which is
no `UserError`.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.convert.digest import header
from components.convert.layout import COMPONENTS, canonical
from components.convert.source import Source
from components.convert.writer import DTYPES, Entry

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

#: Largest mean difference of the two images, in levels of 255, by the file's type. Equal weights give
#: equal images; rounded ones move them (by 0.03 levels as fp16 and 0.3 as bf16 in a tiny random model, more
#: in a trained one), while a wrong scheduler or a wrong weight moves them by tens.
TOLERANCE = {"fp32": 0.01, "fp16": 4.0, "bf16": 16.0}

_STEPS, _SEED = 3, 0


class Mismatch(RuntimeError):
    """The written file is not what it should be; it must not be published."""


def check_header(file: Path, entries: list[Entry]) -> None:
    """Hold the file's own header against the plan.

    Raises:
        Mismatch: naming the tensors that are missing, extra, or of another type or shape.
    """
    try:
        found, _, _ = header(file)
    except ValueError as error:
        raise Mismatch(str(error)) from error
    wanted = {entry.target.name: (entry.dtype, list(entry.shape)) for entry in entries}
    given = {name: (info["dtype"], info["shape"]) for name, info in found.items()}
    _raise_unless_equal(f"{file.name}: header", wanted, given)


def load(file: Path, config: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The file as a pipeline, through diffusers' single-file loader, without network."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_single_file(
        str(file), config=str(config), dtype=dtype, local_files_only=True, safety_checker=None
    )
    return pipeline


def compare_tensors(file: Path, config: Path, source: Source, dtype: str) -> int:
    """Compare every tensor of the loaded file with the checkpoint's, cast to `dtype`; how many there are.

    Raises:
        Mismatch: naming the tensors that are missing, extra or different.
    """
    torch_dtype = DTYPES[dtype][0]
    try:
        pipeline = load(file, config, torch_dtype)
    except Exception as error:
        raise Mismatch(f"{file.name}: diffusers cannot load it: {type(error).__name__}: {error}") from error
    compared = 0
    for component in COMPONENTS:
        loaded = {
            name: tensor
            for given, tensor in getattr(pipeline, component).state_dict().items()
            if (name := canonical(component, given)) is not None
        }
        where = f"{file.name}: {component}"
        _raise_unless_equal(where, dict.fromkeys(source.tensors[component]), dict.fromkeys(loaded))
        different = [
            name
            for name, tensor in loaded.items()
            # A tensor that the loader did not find in the file stays without data, silently.
            if tensor.is_meta or not torch.equal(tensor, source.read(component, name).to(torch_dtype))
        ]
        if different:
            raise Mismatch(f"{where}: {len(different)} tensors differ from the checkpoint: {_few(different)}")
        compared += len(loaded)
    return compared


def compare_images(file: Path, config: Path, checkpoint: Path, dtype: str, prompt: str) -> float:
    """Generate one small image from the file and from the checkpoint, both in float32 and with the same
    noise; the mean absolute difference in levels of 255.

    Raises:
        Mismatch: when it exceeds `TOLERANCE`.
    """
    from diffusers import StableDiffusionPipeline

    pipeline = load(file, config, torch.float32)
    converted = _image(pipeline, prompt)
    del pipeline
    gc.collect()
    pipeline = StableDiffusionPipeline.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    original = _image(pipeline, prompt)
    difference = float(np.abs(converted - original).mean() * 255)
    # Written so that NaN fails.
    if not difference <= TOLERANCE[dtype]:
        raise Mismatch(
            f"{file.name}: an image generated from it differs from the checkpoint's by {difference:.2f} of 255 "
            f"levels on average, more than {TOLERANCE[dtype]} for {dtype}"
        )
    return difference


def _image(pipeline: Any, prompt: str) -> np.ndarray:
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


def _raise_unless_equal(where: str, wanted: dict[str, Any], given: dict[str, Any]) -> None:
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    changed = sorted(name for name in wanted.keys() & given.keys() if wanted[name] != given[name])
    said = [
        f"{len(names)} {what} ({_few(names)})"
        for what, names in (("missing", missing), ("extra", extra), ("of another type or shape", changed))
        if names
    ]
    if said:
        raise Mismatch(f"{where}: tensors {', '.join(said)}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
