"""One published version, found by the name that a user gives: ``NAME`` or ``NAME@VERSION``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError
from components.models import catalog
from components.models.record import ModelRecord, record_of
from components.storage import Entry, Manifest, Store


@dataclass(frozen=True)
class Published:
    """A complete version of a model."""

    name: str
    version: str
    latest: bool  #: whether it is the one that readers get who name none
    withdrawn: bool  #: whether it was taken back
    place: Store  #: of its tree
    manifest: Manifest

    @property
    def label(self) -> str:
        """As users name it."""
        return f"{self.name}@{self.version}"

    @property
    def record(self) -> ModelRecord | None:
        """How it was made; None where it does not say, as what other programs published."""
        return record_of(self.manifest.made_by)

    @property
    def weights(self) -> Entry:
        """The model file."""
        return catalog.weights(self.manifest, self.place.uri)

    def fetch(self, folder: Path) -> None:
        """Fetch all files into `folder`, each held against its digest; those that are there already are kept.

        Raises:
            UserError: where `folder` is a file, or holds another model.
        """
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder")
        others = sorted(p.name for p in folder.glob("*") if p.suffix in catalog.WEIGHTS and p.name != self.weights.path)
        if others:
            raise UserError(f"{folder}: holds another model ({others[0]}); give an empty folder, or remove that file")
        self.place.get_tree(folder)


def find(store: Store, wanted: str) -> Published:
    """The version that ``NAME[@VERSION]`` means; the latest where none is named.

    Raises:
        UserError: for a name or version that is not there; the message gives the known ones.
    """
    name, at, version = wanted.partition("@")
    models = catalog.place_of(store, name)
    latest = catalog.latest(models)
    chosen = version if at else latest.version if latest else ""
    if not at and latest is None:
        # A publisher was killed between its manifest and latest.json.
        chosen = (catalog.versions(models) or [""])[-1]
    return _published(models, name, chosen, latest)


def every(store: Store, name: str) -> list[Published]:
    """All complete versions of a model, the oldest first.

    Raises:
        UserError: for a name that is not there.
    """
    models = catalog.place_of(store, name)
    latest = catalog.latest(models)
    return [_published(models, name, version, latest) for version in catalog.versions(models)]


def _published(models: Store, name: str, version: str, latest: catalog.Latest | None) -> Published:
    manifest = catalog.manifest(models, version)
    newest = latest is not None and latest.version == version
    withdrawn = latest is not None and version in latest.withdrawn
    return Published(name, version, newest, withdrawn, models.at(version), manifest)
