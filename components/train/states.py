"""What an attempt reads of those before it: a state, the checkpoint that holds its weights, the number of threads.

Where something is damaged or gone, another state may serve: that is said, and answered with None. Not covered: which
state is taken, and what one holds (`run`).
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from components.artifacts import CheckpointRef
from components.errors import UserError
from components.progress import log
from components.storage import MANIFEST, Manifest, Store
from components.train.snapshot import Tensors, read_component

T = TypeVar("T")


def is_there(uri: str) -> bool:
    """Whether a tree is at `uri`, by its manifest."""
    return _manifest(Store.from_env(uri)) is not None


def threads_of(tree: Store) -> int | None:
    """CPU threads of the process that published `tree`; None where that is not to be known."""
    manifest = _manifest(tree)
    return manifest.made_by.get("threads") if manifest is not None else None


def _manifest(tree: Store) -> Manifest | None:
    """The tree's manifest; None where there is none, or one that is damaged."""
    data = tree.get_bytes(MANIFEST)
    if data is None:
        return None
    try:
        return Manifest.from_json(data, tree.uri_of(MANIFEST))
    except UserError:
        return None


def fetched(tree: Store) -> dict[str, Any] | None:
    """The state at `tree`; None where it is damaged, or deleted just now by another attempt, which is farther."""

    def read(folder: Path) -> dict[str, Any]:
        file = folder / "state.pt"
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        # What a damaged file makes its reader raise is not to be foreseen.
        except Exception as error:
            if _is_whole(file):
                raise
            raise UserError(f"{tree.uri_of(file.name)}: damaged ({type(error).__name__})") from None
        return state

    return _read(tree, read)


def _is_whole(file: Path) -> bool:
    """Whether an archive, as `torch.save` writes them, is undamaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def published(ref: CheckpointRef) -> dict[str, Tensors] | None:
    """The weights of a checkpoint that a state has just named; None where they are gone or damaged."""
    assert ref.uri is not None

    def read(folder: Path) -> dict[str, Tensors]:
        try:
            return {part: read_component(folder, part) for part in ref.components}
        except SafetensorError as error:
            raise UserError(f"{ref.uri}: damaged ({error})") from None

    return _read(Store.from_env(ref.uri), read)


def _read(tree: Store, read: Callable[[Path], T]) -> T | None:
    """What `read` makes of the files of `tree`; None where they cannot be had.

    Raises:
        UserError: where this machine's disk has no room for them. The state is as good as it was.
    """
    with tempfile.TemporaryDirectory(prefix="state-") as temporary:
        try:
            tree.get_tree(Path(temporary))
            return read(Path(temporary))
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                raise
            log(f"train: a state cannot be resumed from ({error}); looking for another one")
            return None
