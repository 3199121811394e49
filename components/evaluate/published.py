"""The model published last under the run's name: what a checkpoint has to be better than."""

from __future__ import annotations

from pathlib import Path

from components import sampling
from components.errors import UserError
from components.models import catalog
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
    weights = catalog.weights(manifest, place.uri).path
    place.get_tree(folder, only=lambda path: path == weights or path.startswith("config/"))
    return sampling.load_file(folder / weights, folder / "config")
