"""What a run left in the store: its model, its pages and its numbers, fetched into a folder.

KFP keeps a copy of the pages in its own bucket; the store is where a step puts them first, and where the model is. A
version of a model says which data set, base model and settings made it, and so does a run: the run's version is the
newest that agrees and was there when the run ended. Not covered: runs that made no model; their logs name what pages
there are.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.artifacts import EVENTS
from components.errors import UserError
from components.models import catalog
from components.models.record import ModelRecord
from components.progress import size
from components.storage import Store
from components.storage.naming import seconds_of
from pipelines import events
from pipelines.models.published import Published, every

#: Below a training run's ``reports``: the store's name → the name that a run on this machine gives it.
_PAGES = {
    "train.html": "training.html",
    "evaluate.html": "report.html",
    "decision.html": "decision.html",
    "decision.json": "decision.json",
    "metrics.json": "metrics.json",
}


def version_of(store: Store, parameters: Mapping[str, Any], ended: datetime.datetime) -> Published:
    """The version that the run with these parameters made, or answered with.

    Raises:
        UserError: where there is none.
    """
    name = str(parameters["model_name"])
    versions = every(store, name) if name in catalog.names(store) else []
    # A version is named when its upload begins, by the clock of its pod.
    there = [v for v in versions if seconds_of(v.version) <= ended.timestamp() + 60]
    for version in reversed(there):
        record = version.record
        if record is not None and _made_with(record, parameters):
            return version
    raise UserError(
        f"{store.uri}/models/{name}: no version was made with this run's data set, base model and settings before it "
        "ended; it may have been cleaned away, or published elsewhere (--store)"
    )


def fetch(store: Store, version: Published, folder: Path) -> list[str]:
    """Fetch model, card and pages into `folder`; what was fetched, a line each.

    Raises:
        UserError: where the folder holds another model.
    """
    version.fetch(folder)
    fetched = [f"model     {folder / version.weights.path} ({size(version.weights.bytes)})"]
    record = version.record
    assert record is not None
    reports = store.at("train", record.run, "reports")
    for name, target in _PAGES.items():
        data = reports.get_bytes(name)
        if data is not None:
            (folder / target).write_bytes(data)
            fetched.append(f"{target.partition('.')[0]:<9} {folder / target}")
    if events.fetch(store, record.run, folder / EVENTS):
        fetched.append(f"curves    {folder / EVENTS} (tensorboard --logdir)")
    return fetched


def _made_with(record: ModelRecord, parameters: Mapping[str, Any]) -> bool:
    """Whether the version's data set, base model and settings are the run's, as far as both say them."""
    if record.dataset not in ("", parameters["dataset"]):
        return False
    # With a warm start the base is the model published last, and no setting says which that was.
    if record.base_model != parameters["base_model"] and not parameters["snapshot_settings"].get("warm_start"):
        return False
    for step in ("train", "evaluate", "convert"):
        given, made = parameters[f"{step}_settings"], record.settings.get(step)
        # Numbers come back from KFP as floats, which compare equal.
        if made is not None and _without_nulls(made) != given:
            return False
    return True


def _without_nulls(data: Any) -> Any:
    """As settings are given to a run, whose parameters cannot hold null."""
    if isinstance(data, Mapping):
        return {key: _without_nulls(value) for key, value in data.items() if value is not None}
    return data
