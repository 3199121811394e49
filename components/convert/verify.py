"""Load the written file back as a user would, and hold it against the checkpoint it was made from.

Nothing here shares code with the writer's key layout: diffusers' own single-file loader reads the
file, offline. What a LoRA is proven by is in `components.convert.lora`.
"""

from __future__ import annotations

import gc
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from components.convert import images
from components.convert.contents import contents
from components.convert.layout import COMPONENTS, Component, canonical
from components.convert.mismatch import Mismatch, few, raise_unless_equal
from components.convert.source import Source
from components.convert.writer import DTYPES, Entry
from components.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def check_header(file: Path, entries: list[Entry]) -> None:
    """Hold the file's own list of tensors against the plan.

    Raises:
        Mismatch: naming the tensors that are missing, extra, or of another type or shape.
    """
    try:
        found = contents(file)
    except (ValueError, UserError) as error:
        raise Mismatch(str(error)) from error
    wanted = {entry.name: (entry.dtype, entry.shape) for entry in entries}
    given = {name: (content.dtype, content.shape) for name, content in found.items()}
    raise_unless_equal(f"{file.name}: header", wanted, given)


def load(
    file: Path, config: Path, checkpoint: Path, dtype: torch.dtype, components: Collection[Component]
) -> StableDiffusionPipeline:
    """The file as a pipeline, through diffusers' single-file loader, without network.

    Args:
        config: everything of a diffusers folder but the weights.
        checkpoint: diffusers folder that the autoencoder is taken from where it is not among `components`.
    """
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    given: dict[str, Any] = {}
    if "vae" not in components:
        given["vae"] = AutoencoderKL.from_pretrained(
            checkpoint, subfolder="vae", torch_dtype=dtype, local_files_only=True
        )
    pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_single_file(
        str(file), config=str(config), dtype=dtype, local_files_only=True, safety_checker=None, **given
    )
    return pipeline


def compare_tensors(
    file: Path, config: Path, source: Source, dtype: str, components: Collection[Component] = COMPONENTS
) -> int:
    """Compare every tensor of the loaded file with the checkpoint's, cast to `dtype`; how many there are.

    Args:
        components: those that are in the file.

    Raises:
        Mismatch: naming the tensors that are missing, extra or different.
    """
    torch_dtype = DTYPES[dtype][0]
    try:
        pipeline = load(file, config, source.folder, torch_dtype, components)
    except Exception as error:
        raise Mismatch(f"{file.name}: diffusers cannot load it: {type(error).__name__}: {error}") from error
    compared = 0
    for component in components:
        loaded = {
            name: tensor
            for given, tensor in getattr(pipeline, component).state_dict().items()
            if (name := canonical(component, given)) is not None
        }
        where = f"{file.name}: {component}"
        raise_unless_equal(where, dict.fromkeys(source.tensors[component]), dict.fromkeys(loaded))
        different = [
            name
            for name, tensor in loaded.items()
            # A tensor that the loader did not find in the file stays without data, silently.
            if tensor.is_meta or not torch.equal(tensor, source.read(component, name).to(torch_dtype))
        ]
        if different:
            raise Mismatch(f"{where}: {len(different)} tensors differ from the checkpoint: {few(different)}")
        compared += len(loaded)
    return compared


def compare_images(
    file: Path,
    config: Path,
    checkpoint: Path,
    dtype: str,
    prompt: str,
    components: Collection[Component] = COMPONENTS,
) -> float:
    """Generate one small image from the file and from the checkpoint, both in float32 and with the same
    noise; the mean absolute difference in levels of 255.

    Raises:
        Mismatch: when it exceeds `images.TOLERANCE`.
    """
    pipeline = load(file, config, checkpoint, torch.float32, components)
    written = images.draw(pipeline, prompt)
    del pipeline
    gc.collect()
    return images.difference(file.name, written, images.draw(images.load_checkpoint(checkpoint), prompt), dtype)
