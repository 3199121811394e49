"""Write a model's files, and hold each against the checkpoint before anybody gets it."""

from __future__ import annotations

from pathlib import Path

from components.convert import lora, verify, writer
from components.convert.layout import targets
from components.convert.metadata import Facts, header_metadata, lora_metadata
from components.convert.source import Source
from components.progress import log


def write_whole(folder: Path, companion: Path, source: Source, facts: Facts) -> Path:
    """The whole model as one file in `folder`; its path.

    Args:
        companion: everything of the checkpoint's folder but the weights.

    Raises:
        UserError: for values that cannot be written.
        Mismatch: where the file does not read back as the checkpoint.
    """
    dtype, components = facts.config.dtype, facts.components
    file = folder / f"whole.{facts.config.format}"
    wanted = [target for target in targets(source.configs, source.tensors) if target.component in components]
    entries = writer.plan(source, wanted, dtype)
    writer.write(file, source, entries, header_metadata(facts))
    verify.check_header(file, entries)
    count = verify.compare_tensors(file, companion, source, dtype, components)
    log(f"read back by diffusers: {count} tensors equal the checkpoint's, as {dtype}")
    if facts.config.compare_images:
        found = verify.compare_images(file, companion, source.folder, dtype, _prompt(facts))
        log(f"an image from the file differs from the checkpoint's by {found:.2f} of 255 levels")
    return file


def write_lora(folder: Path, base: Path, update: Path, facts: Facts) -> Path:
    """The updates alone as a file in `folder`; its path.

    Args:
        base: diffusers folder of the base model.
        update: the checkpoint's file of updates.

    Raises:
        UserError, Mismatch: as `write_whole`.
    """
    if facts.adapter is None:
        raise ValueError(f"{facts.name}: the checkpoint is no LoRA")
    dtype = facts.config.dtype
    file = folder / "lora.safetensors"
    lora.write(file, facts.adapter, dtype, lora_metadata(facts))
    found = lora.compare(file, base, update, dtype, _prompt(facts) if facts.config.compare_images else None)
    log(f"the LoRA read back by diffusers: every update equals the checkpoint's, as {dtype}")
    if found is not None:
        log(f"an image with it differs from one with the checkpoint's updates by {found:.2f} of 255 levels")
    return file


def _prompt(facts: Facts) -> str:
    prompts = facts.index.prompts
    return prompts[min(prompts)] if prompts else ""
