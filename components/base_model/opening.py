"""A base model as a diffusers folder on this machine, wherever it lies and whatever form it has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from components import hub
from components.base_model import layout
from components.base_model.places import kind_of, stored_files
from components.base_model.revision import is_digest
from components.errors import UserError
from components.progress import log
from components.storage import Store


@contextmanager
def opened(base_model: str, revision: str = "", kept: Store | None = None) -> Iterator[Path]:
    """The base model as a checked diffusers folder: itself where it is one, else a copy below ``TMPDIR``.

    Args:
        base_model: a local folder or single file, ``s3://…`` of either, or ``hf://owner/name@revision``.
        revision: as `components.base_model.revision.base_revision` gave it; of a repository this commit is fetched.
        kept: where an earlier run may have put this revision as a tree: a repository is then not asked again, and a
            single file not written as a folder again.

    Raises:
        UserError: where it is not there, or of a kind that is not supported.
        Unavailable: the store or the hub does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="base-") as temporary:
        folder = _folder(base_model, revision, Path(temporary), kept)
        layout.check_folder(folder, "" if kind_of(base_model) == "folder" else base_model)
        yield folder


def _folder(base_model: str, revision: str, temporary: Path, kept: Store | None) -> Path:
    kind = kind_of(base_model)
    if kind == "folder":
        folder = Path(base_model).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"base_model {base_model}: no such folder; give a diffusers folder, a single file, or an s3:// or "
                "hf:// place"
            )
        return folder
    if kind != "tree" and kept is not None and is_digest(revision) and kept.manifest() is not None:
        kept.get_tree(temporary)
        return temporary
    if kind == "hub":
        repository = hub.parse(base_model)
        if hub.is_commit(revision):
            repository = replace(repository, revision=revision)
        return hub.fetch(repository, [*layout.PATTERNS, *layout.PAPERS], temporary)
    if kind == "tree":
        tree = Store.from_env(base_model)
        if tree.manifest() is None:
            raise UserError(f"base_model {base_model}: there is no complete model; mirror it into the store first")
        tree.get_tree(temporary)
        return temporary
    file = Path(base_model).expanduser() if kind == "file" else _downloaded(base_model, temporary / "single")
    # Loads torch: a folder needs none of it.
    from components.base_model.single_file import convert

    return convert(file, temporary / "diffusers", base_model)


def _downloaded(base_model: str, folder: Path) -> Path:
    """A copy of a single file in a store, with what describes it beside it."""
    parent, _, name = base_model.rpartition("/")
    store = Store.from_env(parent)
    files = stored_files(store, name)
    if not files:
        raise UserError(f"base_model {base_model}: there is no such object; correct the place, or upload the file")
    log(f"downloading {base_model}")
    for file in files:
        store.download_file(file.path, folder / file.path)
    return folder / name
