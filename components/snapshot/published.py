"""What the model published last was trained on, as convert recorded it in the model's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.artifacts import TrainedOn
from components.errors import UserError
from components.progress import log
from components.storage import Store


def trained_on(store: Store, model_name: str, version: str) -> TrainedOn | None:
    """What ``models/<model_name>/<version>`` was made from; None where that is not recorded, or not readable."""
    try:
        manifest = store.at("models", model_name, version).manifest()
    except (UserError, ValueError) as error:
        log(f"model {version}: {error}")
        return None
    recorded = None if manifest is None else manifest.made_by.get("trained_on")
    return _decoded(recorded) if isinstance(recorded, Mapping) else None


def _decoded(recorded: Mapping[str, Any]) -> TrainedOn | None:
    try:
        found = TrainedOn(**recorded)
    except TypeError:
        return None
    return found if all(isinstance(value, str) and value for value in recorded.values()) else None
