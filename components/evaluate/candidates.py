"""The models that an evaluation compares: every checkpoint of a run, and the model published last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components import sampling
from components.artifacts import PUBLISHED, CheckpointIndex, CheckpointRef
from components.checkpoints import fetch_checkpoint, step_name
from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.models import catalog
from components.storage import Store


@dataclass(frozen=True)
class Candidate:
    """One model that draws."""

    step: int  #: or `PUBLISHED`
    label: str  #: of its row
    what: str  #: in messages
    name: str  #: of its folders, and of what is kept of it
    load: Callable[[Path], sampling.Model]  #: fetches it below a folder that the run's models share, and loads it

    @property
    def optional(self) -> bool:
        """Whether the evaluation goes on where it is gone or cannot be loaded."""
        return self.step == PUBLISHED


def of_run(
    config: EvaluateConfig, index: CheckpointIndex, store: Store, model_name: str, published_revision: str
) -> list[Candidate]:
    """The checkpoints by rising steps, the untrained base first; then, where the settings want it, a published version
    of `model_name`: `published_revision`, or the one published last where that is empty."""
    found = [_checkpoint(index, ref) for ref in index.refs()]
    version = (published_revision or published_last(store, model_name)) if config.compare_with_published else ""
    if version:
        place = store.at("models", model_name, version)
        found.append(
            Candidate(
                PUBLISHED,
                f"published {version}",
                f"the published model {version}",
                f"published-{version}",
                lambda folder: _published(place, folder),
            )
        )
    return found


def published_last(store: Store, model_name: str) -> str:
    """The version that ``latest.json`` names; empty where nothing is published.

    Asked for here and not by snapshot, whose outputs are what the cache knows a run by: every published model would
    make the next run, on unchanged data, another one.
    """
    found = catalog.latest(store.at("models", model_name)) if model_name else None
    return "" if found is None else found.version


def _checkpoint(index: CheckpointIndex, ref: CheckpointRef) -> Candidate:
    def load(folder: Path) -> sampling.Model:
        whole = fetch_checkpoint(index, ref, folder)
        try:
            return sampling.load(whole)
        finally:
            shutil.rmtree(whole)

    if ref.step == 0:
        return Candidate(0, "base", f"the base model {index.base_model}", step_name(0), load)
    return Candidate(ref.step, f"step {ref.step}", f"step {ref.step}", step_name(ref.step), load)


def _published(place: Store, folder: Path) -> sampling.Model:
    manifest = place.manifest()
    if manifest is None:
        raise UserError(f"{place.uri}: the published model is gone from the store")
    whole = folder / "published"
    weights = catalog.weights(manifest, place.uri).path
    try:
        place.get_tree(whole, only=lambda path: path == weights or path.startswith("config/"))
        return sampling.load_file(whole / weights, whole / "config")
    finally:
        shutil.rmtree(whole, ignore_errors=True)
