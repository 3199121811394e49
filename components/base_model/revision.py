"""Which revision a base model is at: what snapshot gives out, and what train then opens.

Of a folder and of a single file the digest of their bytes, of a published tree its manifest's, of an object in a store
that of its listing, of a repository the commit.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from components import hub
from components.base_model import contents, layout
from components.base_model.places import kind_of, local_files, stored_files
from components.dataset import list_folder, listing_revision, local_folder
from components.errors import UserError
from components.progress import log
from components.revision import content_revision, say
from components.storage import Store

_WHAT = "base_model"
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_digest(revision: str) -> bool:
    """Whether `revision` says what the model is, as `base_revision` does; a person may have written anything else."""
    return _DIGEST.fullmatch(revision) is not None


def base_revision(base_model: str, workers: int) -> str:
    """The revision of the base model at `base_model`; `workers` files are read at the same time.

    Raises:
        UserError: where there is no base model, or one that is known not to be supported by the names of its files.
        Unavailable: the store or the hub does not answer.
    """
    kind = kind_of(base_model)
    if kind == "hub":
        return _commit(hub.parse(base_model))
    if kind == "tree":
        return _published(base_model)
    if kind == "object":
        parent, _, name = base_model.rpartition("/")
        files = stored_files(Store.from_env(parent), name)
        if not files:
            raise UserError(f"{_WHAT}: there is no object {base_model}; correct the place, or upload the file")
        revision = listing_revision(files)
    elif kind == "file":
        file = Path(base_model).expanduser().absolute()
        if not file.is_file():
            raise UserError(f"{_WHAT}: {file} does not exist (inside a container only mounted folders are seen)")
        if not os.access(file, os.R_OK):
            raise UserError(f"{_WHAT}: no permission to read {file}; allow it with chmod or run as its owner")
        contents.refuse_pointers({str(file): file})
        files = local_files(file)
        revision = content_revision(file.parent, files, _WHAT, workers)
    else:
        folder = local_folder(base_model, _WHAT)
        files = list_folder(folder, _WHAT)
        if not any(f.path == layout.INDEX for f in files):
            raise UserError(
                f"{_WHAT}: {folder} has no {layout.INDEX}, so it is not a model in diffusers layout; give the folder "
                f"that holds {layout.INDEX}, unet/, vae/, text_encoder/ and tokenizer/, or a single file"
            )
        contents.refuse_pointers({str(file): file for file in layout.files_of(folder).values()})
        revision = content_revision(folder, files, _WHAT, workers)
    say(_WHAT, base_model, files, revision)
    return revision


def _commit(repository: hub.Repository) -> str:
    """A commit stands for itself, so that a run that names one needs no network here."""
    if repository.pinned or hub.is_offline():
        return hub.cached_commit(repository)
    found = hub.look(repository)
    layout.check(found.files, str(repository))
    log(f"{_WHAT} {repository}: commit {found.commit}")
    return found.commit


def _published(base_model: str) -> str:
    manifest = Store.from_env(base_model).manifest()
    if manifest is None:
        raise UserError(
            f"{_WHAT}: no complete model at {base_model} (no MANIFEST.json there); put it there with python -m "
            "pipelines mirror, or let an upload that is under way finish"
        )
    log(f"{_WHAT} {base_model}: published tree, revision {manifest.digest[:12]}")
    return manifest.digest
