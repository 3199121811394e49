"""The places that a base model can be in, told apart by their names, and what lies beside a single file."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from components import hub
from components.dataset import File, is_remote
from components.storage import Store

#: A repository of the hub, a published tree or one object of a store, a local file or folder.
Kind = Literal["hub", "tree", "object", "file", "folder"]

#: Endings of files that hold a whole model.
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")

#: The folder beside a single file that says what its tensors do not: a diffusers folder without weights.
CONFIG = "config"


def kind_of(base_model: str) -> Kind:
    """What kind of place `base_model` names; whether anything is there is not asked."""
    if base_model.startswith(hub.SCHEME):
        return "hub"
    if is_remote(base_model):
        return "object" if base_model.endswith(SUFFIXES) else "tree"
    path = Path(base_model).expanduser()
    return "file" if path.name.endswith(SUFFIXES) and not path.is_dir() else "folder"


def local_files(file: Path) -> list[File]:
    """A single file and what describes it, paths relative to its folder; the file comes first."""
    beside = [file.with_suffix(".yaml"), *sorted((file.parent / CONFIG).rglob("*"))]
    paths = [file, *(path for path in beside if path.is_file() and describes(path.relative_to(file.parent), file.name))]
    return [File(path.relative_to(file.parent).as_posix(), path.stat().st_size) for path in paths]


def stored_files(store: Store, name: str) -> list[File]:
    """The same of the object `name` in `store`; empty where there is no such object."""
    yaml = PurePosixPath(name).with_suffix(".yaml").name
    found = {o.key: File(o.key, o.bytes, o.etag) for prefix in (name, yaml, f"{CONFIG}/") for o in store.list(prefix)}
    if name not in found:
        return []
    return [found[name], *(f for key, f in sorted(found.items()) if describes(PurePosixPath(key), name))]


def describes(path: PurePath, name: str) -> bool:
    """Whether the file at `path` is part of the description of the single file `name` beside it."""
    if len(path.parts) == 1:
        return path.name == PurePosixPath(name).with_suffix(".yaml").name
    return path.parts[0] == CONFIG and path.suffix in (".json", ".txt")
