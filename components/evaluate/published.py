"""The model published last under the run's name: what a checkpoint has to be better than."""

from __future__ import annotations

from pathlib import Path

from components import sampling
from components.errors import UserError
from components.storage import Store


def fetch(store: Store, model_name: str, version: str, folder: Path) -> sampling.Model:
    """Fetch version `version` of `model_name` below `folder` and load it.

    Raises:
        UserError: when it is not in the store, or cannot be loaded.
    """
    place = store.at("models", model_name, version)
    manifest = place.manifest()
    if manifest is None:
        raise UserError(f"{place.uri}: the published model is gone from the store")
    files = [entry.path for entry in manifest.files if entry.path.endswith(".safetensors") and "/" not in entry.path]
    if len(files) != 1:
        raise UserError(f"{place.uri}: holds {len(files)} .safetensors files, not one")
    place.get_tree(folder, only=lambda path: path in files or path.startswith("config/"))
    return sampling.load_file(folder / files[0], folder / "config")
