"""A checkpoint of the train step, made whole again.

The base model is stored once, complete; a checkpoint holds only the components that training
changed, or low-rank updates of them. Here the two are put together into a diffusers folder that any
program loads.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from components import adapters
from components.artifacts import CheckpointIndex, CheckpointRef
from components.errors import UserError
from components.storage import Store


def step_name(step: int) -> str:
    """Name of a step's folder and prefix: ``step-000500``, which sorts as the steps do."""
    return f"step-{step:06d}"


def fetch_checkpoint(index: CheckpointIndex, ref: CheckpointRef, folder: Path) -> Path:
    """Fetch checkpoint `ref` of the run `index` below `folder`; the path of a complete diffusers folder.

    What is already below `folder` is not fetched again, so that the parts which all checkpoints of a
    run share cross the network once. The result links to them: treat it as read-only, and remove it
    (not `folder`) when it is no longer needed.

    Raises:
        UserError: when the base or the checkpoint is gone from the store; the message says which.
    """
    shared = base_below(folder)
    replaced = () if ref.adapter else tuple(f"{name}/" for name in ref.components)
    base = Store.from_env(index.base_uri)
    if base.manifest() is None:
        raise UserError(f"{index.base_uri}: the base model is gone from the store; run train again")
    kept = base.get_tree(shared, only=lambda path: not path.startswith(replaced))
    whole = folder / step_name(ref.step)
    if whole.exists():
        shutil.rmtree(whole)
    for entry in kept.files:
        if not entry.path.startswith(replaced):
            target = whole / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(shared / entry.path)
    if ref.uri is not None:
        trained = Store.from_env(ref.uri)
        if trained.manifest() is None:
            raise UserError(f"{ref.uri}: checkpoint {ref.step} is gone from the store; run train again")
        if ref.adapter:
            update = update_below(folder, ref)
            trained.get_tree(update.parent)
            adapters.fuse(whole, update)
        else:
            trained.get_tree(whole)
    return whole


def base_below(folder: Path) -> Path:
    """Where `fetch_checkpoint` puts what it fetches of the base model: all of it, where checkpoints are updates."""
    return folder / "base"


def update_below(folder: Path, ref: CheckpointRef) -> Path:
    """Where `fetch_checkpoint` puts the file of updates that the checkpoint `ref` is."""
    return folder / f"{step_name(ref.step)}-update" / adapters.FILE
