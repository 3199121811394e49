"""A training run in the object store: its fingerprint, checkpoints, states and index.

    <store>/base-models/<revision>/          the base model, once for all runs that use it
    <store>/train/<fingerprint>/index.json   written last: the run is complete
    <store>/train/<fingerprint>/<attempt>/step-000500/   a checkpoint: the components that changed
    <store>/train/<fingerprint>/state/<attempt>-000500/  what the next attempt goes on from

Every attempt writes under a prefix of its own, so two of them never mix bytes; the fingerprint says
that both would have made the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import torch

from components.artifacts import CheckpointIndex, CheckpointRef
from components.checkpoints import step_name
from components.progress import log
from components.storage import Store, digest_of
from components.train.config import TrainConfig
from components.train.model import files_of


def fingerprint(crops_digest: str, base_revision: str, config: TrainConfig) -> str:
    """Digest, 16 hex digits, of all that decides a run's weights.

    Crops, base, settings, the trainer's own sources, torch's version and the kind of device. Not the
    CPU model: its last bits differ, what it learns does not.
    """
    here = Path(__file__).parent
    sources = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(here.glob("*.py"))}
    made_of = {
        "crops": crops_digest,
        "base": base_revision,
        "settings": config.model_dump(mode="json"),
        "sources": sources,
        "torch": torch.__version__.partition("+")[0],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    return digest_of(made_of)[:16]


class Run:
    """One attempt at the run with a fingerprint."""

    def __init__(self, store: Store, fingerprint: str) -> None:
        self.store = store.at("train", fingerprint)
        self.attempt = uuid.uuid4().hex[:8]
        self.refs: list[CheckpointRef] = []

    def finished(self) -> CheckpointIndex | None:
        """The index of an earlier attempt that ended, with every checkpoint still there."""
        data = self.store.get_bytes("index.json")
        if data is None:
            return None
        index = CheckpointIndex(**json.loads(data))
        gone = [ref.uri for ref in index.refs() if ref.uri and Store.from_env(ref.uri).manifest() is None]
        if gone or Store.from_env(index.base_uri).manifest() is None:
            log(f"train: an earlier run is incomplete in the store ({len(gone)} checkpoints gone); training again")
            return None
        return index

    def publish(self, step: int, images_seen: int, trainer: Any) -> CheckpointRef:
        """Publish the weights of `step`; they exist for readers when this returns."""
        tree = self.store.at(self.attempt, step_name(step))
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
            with trainer.published() as parts:
                for name, part in parts.items():
                    part.save_pretrained(Path(temporary) / name, safe_serialization=True)
            tree.put_tree(Path(temporary), {"step": "train", "max_train_steps": trainer.config.max_train_steps})
        ref = CheckpointRef(step=step, uri=tree.uri, components=trainer.names, images_seen=images_seen)
        self.refs.append(ref)
        return ref

    def save_state(self, trainer: Any, losses: list[float]) -> None:
        """Commit what a later attempt resumes from, then drop the state before it."""
        states = self.store.at("state")
        name = f"{self.attempt}-{trainer.done:06d}"
        with tempfile.TemporaryDirectory(prefix="state-") as temporary:
            value = {
                **trainer.state(),
                "losses": losses,
                "refs": [dataclasses.asdict(ref) for ref in self.refs],
            }
            torch.save(value, Path(temporary) / "state.pt")
            states.at(name).put_tree(Path(temporary), {"step": "train", "done": trainer.done})
        for other in _state_names(states):
            if other.startswith(self.attempt) and other != name:
                states.at(other).delete_tree()

    def resume(self, trainer: Any) -> list[float]:
        """Take up the furthest committed state, if there is one; the losses up to there."""
        states = self.store.at("state")
        for name in sorted(_state_names(states), key=lambda n: int(n.rpartition("-")[2]), reverse=True):
            tree = states.at(name)
            if tree.manifest() is None:
                continue
            with tempfile.TemporaryDirectory(prefix="state-") as temporary:
                tree.get_tree(Path(temporary))
                state = torch.load(Path(temporary) / "state.pt", weights_only=True, map_location="cpu")
            refs = [CheckpointRef(**data) for data in state.pop("refs")]
            if any(ref.uri and Store.from_env(ref.uri).manifest() is None for ref in refs):
                continue
            losses: list[float] = state.pop("losses")
            trainer.restore(state)
            self.refs = refs
            log(f"train: resumed at step {trainer.done} of an earlier attempt")
            return losses
        return []

    def finish(self, index: CheckpointIndex) -> None:
        """Write the index, which completes the run, and drop the states that are needed no more."""
        self.store.put_bytes(
            "index.json", json.dumps(dataclasses.asdict(index), allow_nan=False).encode(), "application/json"
        )
        self.store.at("state").delete_tree()


def _state_names(states: Store) -> set[str]:
    return {entry.key.split("/")[0] for entry in states.list()}


def publish_base(folder: Path, revision: str, store: Store) -> str:
    """Store the base model in `folder` once; the URI of its tree."""
    tree = store.at("base-models", revision[:16])
    if tree.manifest() is None:
        files = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
        tree.put_files(files, {"step": "train", "base_model": folder.name})
    return tree.uri
