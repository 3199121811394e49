"""The crops of a data set at one revision, kept in the store so that a later look can count what is new.

``<store>/snapshots/<key>.json``: ``schema`` 1, ``dataset_revision`` for people, ``counts`` and ``crops`` of
`components.crop.survey.Inventory`. The key is a digest of all that the inventory depends on and of the store's
generation. A record is written once and may be deleted: what it was needed for is news then.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from components.artifacts import SPLITS
from components.crop.survey import Inventory
from components.documents import parse_json
from components.progress import log
from components.storage import Store, digest_of

_SCHEMA = 1


@dataclass(frozen=True)
class Records:
    """The records of one data set under one set of crop settings."""

    home: Store  #: ``<store>/snapshots``
    dataset: str
    crop_settings: str  #: sha256 of the settings
    generation: str

    def read(self, revision: str) -> Inventory | None:
        """The record of a revision; None where there is none, or (with a line in the log) it is damaged."""
        key = self._key(revision)
        data = self.home.get_bytes(key)
        if data is None:
            return None
        try:
            return _decoded(parse_json(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"{self.home.uri_of(key)}: damaged ({error!r}), so not used")
            return None

    def write(self, revision: str, inventory: Inventory) -> None:
        """Keep the inventory of a revision."""
        data = {"schema": _SCHEMA, "dataset_revision": revision, **asdict(inventory)}
        self.home.put_bytes(self._key(revision), json.dumps(data, sort_keys=True).encode(), "application/json")

    def _key(self, revision: str) -> str:
        return f"{digest_of([self.dataset, revision, self.crop_settings, self.generation])}.json"


def _decoded(data: Any) -> Inventory:
    if data["schema"] != _SCHEMA:
        raise ValueError(f"schema {data['schema']!r}, known here: {_SCHEMA}")
    counts = {str(name): {str(split): int(of[split]) for split in SPLITS} for name, of in data["counts"].items()}
    return Inventory(counts, {str(crop): str(shown) for crop, shown in data["crops"].items()})
