"""The model published last, as convert recorded it in the model's manifest: what it was made of, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from components.artifacts import TrainedOn
from components.base_model.revision import base_revision
from components.errors import UserError
from components.models import catalog
from components.models.record import record_of
from components.progress import log
from components.storage import Manifest, Store


class Base(NamedTuple):
    """A base model: where it is, and at which revision."""

    place: str
    revision: str


def trained_on(store: Store, model_name: str, version: str) -> TrainedOn | None:
    """What ``models/<model_name>/<version>`` was made from; None where that is not recorded, or not readable."""
    manifest = _manifest(store, model_name, version)
    recorded = None if manifest is None else manifest.made_by.get("trained_on")
    return _decoded(recorded) if isinstance(recorded, Mapping) else None


def base_of(store: Store, model_name: str, version: str) -> Base | None:
    """The base that a published version was trained from; None where that is not recorded, or not readable."""
    manifest = _manifest(store, model_name, version)
    record = None if manifest is None else record_of(manifest.made_by)
    return None if record is None else Base(record.base_model, record.base_revision)


def as_base(store: Store, model_name: str, version: str, workers: int) -> Base:
    """A published version's weights as a base: one file, its configuration beside it.

    Raises:
        UserError: where there is no such version, or its file is not the whole model.
    """
    models = store.at("models", model_name)
    manifest, tree = catalog.manifest(models, version), models.at(version)
    file = catalog.weights(manifest, tree.uri).path
    record = record_of(manifest.made_by)
    if file.endswith(catalog.LORA):
        raise _not_whole(tree, "is a LoRA alone", "convert.lora to merged or both")
    convert = record.settings.get("convert") if record is not None else None
    if isinstance(convert, dict) and convert.get("include_vae") is False:
        raise _not_whole(tree, "has no autoencoder", "convert.include_vae to true")
    place = tree.uri_of(file)
    return Base(place, base_revision(place, workers))


def _not_whole(tree: Store, what: str, setting: str) -> UserError:
    return UserError(
        f"snapshot.warm_start: {tree.uri} {what}, and only a whole model can be trained on; set {setting}, and "
        "snapshot.warm_start to false for one run, which begins from base_model"
    )


def _manifest(store: Store, model_name: str, version: str) -> Manifest | None:
    try:
        return store.at("models", model_name, version).manifest()
    except (UserError, ValueError) as error:
        log(f"model {version}: {error}")
        return None


def _decoded(recorded: Mapping[str, Any]) -> TrainedOn | None:
    try:
        found = TrainedOn(**recorded)
    except TypeError:
        return None
    return found if all(isinstance(value, str) and value for value in recorded.values()) else None
