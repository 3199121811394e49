"""A diffusers folder as one file in the original Stable Diffusion key layout, for tests that read such files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from components.base_model.layout import INDEX
from components.convert import writer
from components.convert.layout import targets
from components.convert.source import Source


def write_single_file(folder: Path, file: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write the weights of the diffusers folder `folder` as they are to `file`, which is returned."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with Source(folder) as source:
        entries = writer.plan(source, targets(source.configs, source.tensors), "fp32")
        writer.write(file, source, entries, {"format": "pt", **(metadata or {})})
    return file


def write_config(folder: Path, config: Path) -> Path:
    """Copy everything of `folder` but its weights to `config`, which is returned."""
    config.mkdir(parents=True)
    shutil.copyfile(folder / INDEX, config / INDEX)
    for path in [*folder.glob("*/*.json"), *folder.glob("*/*.txt")]:
        target = config / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return config
