"""A checkpoint written as a file, and files that are changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from components.convert import writer
from components.convert.companion import write_companion
from components.convert.layout import targets
from components.convert.source import Source


def convert(
    checkpoint: Path, folder: Path, dtype: str = "fp16", suffix: str = ".safetensors"
) -> tuple[Path, Path, list[writer.Entry]]:
    """The checkpoint as a file, its companion folder and the plan."""
    file, companion = folder / f"model{suffix}", folder / "config"
    with Source(checkpoint) as source:
        source.check()
        write_companion(checkpoint, companion)
        entries = writer.plan(source, targets(source.configs, source.tensors), dtype)
        writer.write(file, source, entries, {"format": "pt"})
    return file, companion, entries


def change(file: Path, edit) -> None:  # type: ignore[no-untyped-def]
    """Rewrite a safetensors file with `edit` applied to its tensors."""
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def copied(checkpoint: Path, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint, folder / "checkpoint"))
