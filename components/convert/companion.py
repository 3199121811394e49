"""The folder published beside the weights: everything of a diffusers pipeline but its weights.

One file holds tensors only. Which scheduler they were trained for, how wide and deep the networks are
and how text becomes tokens is in here, so that a pipeline can be loaded anywhere without a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.base_model.layout import COMPONENTS

_TEXT_SUFFIXES = {".json", ".txt"}


def write_companion(checkpoint: Path, folder: Path) -> None:
    """Copy the configs, scheduler and tokenizer of the diffusers folder `checkpoint` to `folder`.

    The safety checker and its feature extractor, which are models of their own, are left out and
    entered as absent; paths of the machine that trained are dropped.
    """
    index = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
    kept = {
        key: value if key in COMPONENTS or not isinstance(value, list) else [None, None] for key, value in index.items()
    }
    _write(folder / "model_index.json", {**kept, "requires_safety_checker": False})
    for part in COMPONENTS:
        for path in sorted((checkpoint / part).iterdir()):
            if path.suffix not in _TEXT_SUFFIXES or path.name.endswith(".index.json"):
                continue
            if path.suffix == ".txt":
                (folder / part).mkdir(parents=True, exist_ok=True)
                (folder / part / path.name).write_bytes(path.read_bytes())
            else:
                _write(folder / part / path.name, json.loads(path.read_text(encoding="utf-8")))


def _write(path: Path, data: Any) -> None:
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key not in ("_name_or_path", "name_or_path")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
