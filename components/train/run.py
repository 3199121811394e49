"""A training run in the object store: its fingerprint, checkpoints, states and index.

    <store>/base-models/<revision>/          the base model, once for all runs that use it
    <store>/train/<fingerprint>/index.json   written last: the run is complete
    <store>/train/<fingerprint>/<attempt>/step-000500/   a checkpoint: the components that changed
    <store>/train/<fingerprint>/state/<attempt>-000500/  what the next attempt goes on from; the weights are
                                                         those of this step's checkpoint, where there is one

Every attempt writes under a prefix of its own, so two of them never mix bytes; the fingerprint says
that both would have made the same. The first index written is the run's. A state is deleted when one
that is as far or farther is committed, whosever it is; one that is under way is never touched before
the run has an index.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from components import adapters
from components.artifacts import CheckpointIndex, CheckpointRef, from_json
from components.base_model import layout
from components.checkpoints import step_name
from components.errors import UserError
from components.progress import log
from components.storage import MANIFEST, Entry, Store, digest_of, sha256_file
from components.storage.uri import key_part
from components.train import lora, states
from components.train.config import TrainConfig
from components.train.history import History
from components.train.snapshot import Snapshot, unpacked, write_component
from components.train.uploads import persistently

#: Libraries that compute: another version may give other last digits.
_LIBRARIES = ("accelerate", "diffusers", "numpy", "peft", "torch", "transformers")

#: Settings that change no checkpoint: neither its weights nor whether there is one.
_OF_STATES = {"state_every", "state_every_minutes"}
#: Files of a base model up to so many bytes are compared whole: all but the weights.
_COMPARED = 16 << 20


def fingerprint(crops_digest: str, base_revision: str, config: TrainConfig) -> str:
    """Digest, 16 hex digits, of all that decides a run's weights.

    Crops, base, settings, the trainer's own sources, the libraries' versions and the kind of device. Not
    how often states are saved, nor the CPU model: its last bits differ, what it learns does not. What is kept
    of the checkpoints (`checkpoints_total_limit`) is in it: an attempt that keeps fewer deletes what one that
    keeps more refers to.
    """
    here = Path(__file__).parent
    sources = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(here.glob("*.py"))}
    libraries = (*_LIBRARIES, *(["bitsandbytes"] if config.use_8bit_adam else []))
    made_of = {
        "crops": crops_digest,
        "base": base_revision,
        "settings": config.model_dump(mode="json", exclude=_OF_STATES),
        "sources": sources,
        "libraries": {name: _version(name) for name in libraries},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    return digest_of(made_of)[:16]


def _version(library: str) -> str:
    """The library's version, "" where it is not installed (some settings alone need peft or bitsandbytes)."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        return ""


class Run:
    """One attempt at the run with a fingerprint.

    `publish` and `save` belong to one thread, in the order of the steps; the others are called before and
    after it. Of the checkpoints only the newest `limit` are kept, all without one.
    """

    def __init__(self, store: Store, fingerprint: str, limit: int | None = None) -> None:
        self._limit = limit
        self.store, self.fingerprint = store.at("train", fingerprint), fingerprint
        self.states = self.store.at("state")
        self.reports = self.store.at("reports")
        self.attempt = uuid.uuid4().hex[:8]
        self.refs: list[CheckpointRef] = []

    def index(self) -> CheckpointIndex | None:
        """The index of the attempt that ended first; None before one has."""
        data = self.store.get_bytes("index.json")
        place = self.store.uri_of("index.json")
        return None if data is None else from_json(data, CheckpointIndex, place)

    def finished(self) -> CheckpointIndex | None:
        """The run's index, with every checkpoint still there."""
        index = self.index()
        if index is None:
            return None
        gone = [ref.uri for ref in index.refs() if ref.uri and not states.is_there(ref.uri)]
        if gone or not states.is_there(index.base_uri):
            log(f"train: an earlier run is incomplete in the store ({len(gone)} checkpoints gone); training again")
            return None
        return index

    def threads(self) -> int | None:
        """CPU threads that the farthest state was made with, for the next attempt to go on with; None without one."""
        return next((count for tree in self._farthest_first() if (count := states.threads_of(tree))), None)

    def publish(self, snapshot: Snapshot, configs: dict[str, dict[str, Any]], config: TrainConfig) -> CheckpointRef:
        """Publish a snapshot's weights; they exist for readers when this returns.

        Args:
            configs: component → its ``config.json``.

        Raises:
            UserError: for weights that are no numbers, which are not published.
        """
        snapshot.check()
        weights = snapshot.named()
        tree = self.store.at(self.attempt, step_name(snapshot.step))
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
            folder = Path(temporary)
            if config.use_lora:
                named = {part: {lora.published(k): t for k, t in ts.items()} for part, ts in weights.items()}
                adapters.write(folder / adapters.FILE, named, lora.ranks(config))
            else:
                for component, tensors in weights.items():
                    write_component(folder, component, configs[component], tensors)
            made_by = {"max_train_steps": config.max_train_steps, **_made_by()}
            persistently(lambda: tree.put_tree(folder, made_by))
        ref = CheckpointRef(snapshot.step, tree.uri, sorted(weights), snapshot.images_seen, adapter=config.use_lora)
        self.refs.append(ref)
        log(f"checkpoint {ref.step} published to {ref.uri}")
        return ref

    def save(self, snapshot: Snapshot, history: dict[str, list[float]]) -> None:
        """Commit what a later attempt resumes from, then drop the states that it surpasses.

        Whole weights that `publish` has just sent are not sent again. Their checkpoint is one of the run's, and the
        newest: no limit reaches it before there is a state that is farther.
        """
        assert snapshot.state is not None
        tree = self.states.at(f"{self.attempt}-{snapshot.step:06d}")
        refs = [dataclasses.asdict(ref) for ref in self.kept]
        published = snapshot.publish and not self.refs[-1].adapter
        weights = None if published else snapshot.weights
        value = {"trainer": snapshot.state, "weights": weights, "history": history, "refs": refs}
        with tempfile.TemporaryDirectory(prefix="state-") as temporary:
            # Through a file of ours: torch's own says of a full disk only that something is too short.
            with (Path(temporary) / "state.pt").open("wb") as file:
                torch.save(value, file)
            made_by = {"done": snapshot.step, **_made_by()}
            try:
                persistently(lambda: tree.put_tree(Path(temporary), made_by))
            except UserError:
                # An attempt that ended first has deleted all states, this one while it was sent.
                if not self.store.exists("index.json"):
                    raise
                return
        persistently(lambda: self._drop((snapshot.step, tree.uri)))
        persistently(self._delete_surplus)

    def resume(self, trainer: Any) -> History:
        """Take up the farthest committed state, if there is one; the course of training up to there.

        One that was made with another number of threads than this process has (`threads`) is passed over: the weights
        would be neither its attempt's nor this one's.
        """
        for tree in self._farthest_first():
            if (count := states.threads_of(tree)) not in (None, torch.get_num_threads()):
                log(f"train: a state that was made with {count} threads is passed over")
                continue
            state = states.fetched(tree)
            if state is None:
                continue
            refs = [CheckpointRef(**data) for data in state["refs"]]
            if not all(states.is_there(ref.uri) for ref in refs if ref.uri):
                continue
            weights = unpacked(state["weights"]) if state["weights"] else states.published(refs[-1])
            if weights is None:
                continue
            trainer.restore(unpacked(state["trainer"]), weights)
            self.refs = refs
            log(f"train: resumed at step {trainer.done} of an earlier attempt")
            return History.of(state["history"])
        return History()

    def finish(self, index: CheckpointIndex) -> None:
        """Write the index, which completes the run, and drop the states that are needed no more.

        Where another attempt was complete first, its index is the run's.
        """
        data = json.dumps(dataclasses.asdict(index), allow_nan=False).encode()
        if not self.store.create_bytes("index.json", data, "application/json") and self.finished() is None:
            self.store.put_bytes("index.json", data, "application/json")
        self.states.delete_tree()
        self._delete_surplus()

    @property
    def kept(self) -> list[CheckpointRef]:
        """The checkpoints that belong to the run."""
        return self.refs[-self._limit :] if self._limit else self.refs

    def _delete_surplus(self) -> None:
        """Delete the checkpoints over the limit, when neither a state nor the index refers to them any more."""
        for ref in self.refs[: len(self.refs) - len(self.kept)]:
            if ref.uri is not None:
                Store.from_env(ref.uri).delete_tree()
        self.refs = self.kept

    def _committed(self) -> list[tuple[Store, int]]:
        """Committed states and their steps."""
        names = sorted({info.key.split("/")[0] for info in self.states.list() if info.key.endswith(MANIFEST)})
        return [(self.states.at(name), int(name.rpartition("-")[2])) for name in names]

    def _farthest_first(self) -> list[Store]:
        return [tree for tree, _ in sorted(self._committed(), key=lambda found: found[1], reverse=True)]

    def _drop(self, below: tuple[int, str]) -> None:
        """Delete the states below this step and place, whosever they are."""
        for tree, done in self._committed():
            if (done, tree.uri) < below:
                tree.delete_tree()


def _made_by() -> dict[str, Any]:
    """What a tree's manifest says of this process."""
    return {"step": "train", "threads": torch.get_num_threads()}


def base_tree(store: Store, revision: str) -> Store:
    """Where the base model of a revision lies in the store, once train has put it there."""
    return store.at("base-models", key_part(revision[:16], "base_revision"))


def publish_base(folder: Path, base_model: str, revision: str, store: Store) -> str:
    """Store the base model in `folder`, which the user knows as `base_model`, once; the URI of its tree.

    Args:
        revision: a digest, so that gigabytes which are there already need not be read for a comparison: their sizes are
            compared, and the content of small files.

    Raises:
        UserError: where another model lies at the place of this revision.
    """
    tree, files = base_tree(store, revision), layout.files_of(folder)
    manifest = tree.manifest()
    if manifest is None:
        tree.put_files(files, {"step": "train", "base_model": base_model})
        return tree.uri
    other = [entry.path for entry in manifest.files if entry.path in files and _differs(files[entry.path], entry)]
    if other:
        raise UserError(
            f"base_model {base_model}: {other[0]} is not that of revision {revision[:16]}, which is in the store "
            f"({tree.uri}); the model has changed since its revision was taken, or the revision is another model's. "
            "Run snapshot again, or give `any` as base_revision to have it worked out"
        )
    return tree.uri


def _differs(file: Path, entry: Entry) -> bool:
    if file.stat().st_size != entry.bytes:
        return True
    return entry.bytes <= _COMPARED and sha256_file(file) != entry.sha256
