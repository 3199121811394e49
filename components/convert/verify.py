"""Load the written file back as a user would, and hold it against the checkpoint it was made from.

Nothing here shares code with the writer's key layout: `components.sampling`, as any user of the file, reads it by
diffusers' own single-file loader. What a LoRA is proven by is in `components.convert.lora`.
"""

from __future__ import annotations

import gc
from collections.abc import Collection
from pathlib import Path

import torch

from components.convert import images
from components.convert.contents import contents
from components.convert.layout import COMPONENTS, Component, canonical
from components.convert.mismatch import Mismatch, few, raise_unless_equal
from components.convert.source import Source
from components.convert.writer import DTYPES, Entry
from components.errors import UserError
from components.sampling import pipeline_of


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
        pipeline = pipeline_of(file, config, torch_dtype, source.folder)
    except UserError as error:
        raise Mismatch(str(error)) from error
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
            if not torch.equal(tensor, source.read(component, name).to(torch_dtype))
        ]
        if different:
            raise Mismatch(f"{where}: {len(different)} tensors differ from the checkpoint: {few(different)}")
        compared += len(loaded)
    return compared


def compare_images(file: Path, config: Path, checkpoint: Path, dtype: str, prompt: str) -> float:
    """Generate one small image from the file and from the checkpoint, both in float32 and with the same
    noise; the mean absolute difference in levels of 255.

    Raises:
        Mismatch: when it exceeds `images.TOLERANCE`.
    """
    pipeline = pipeline_of(file, config, torch.float32, checkpoint)
    written = images.draw(pipeline, prompt)
    del pipeline
    gc.collect()
    return images.difference(file.name, written, images.draw(images.load_checkpoint(checkpoint), prompt), dtype)
