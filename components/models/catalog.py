"""Names and versions of published models, and ``latest.json``.

    <store>/models/<name>/latest.json                the version that readers get who do not name one
                         /<version>/MANIFEST.json    written last: the version exists once this does
                         /<version>/…                weights, model card, settings

``latest.json`` names the newest complete version that was not taken back; it lists those that were
(``withdrawn``). It is replaced whole, in one request. A publisher, `promote` and `rollback` all write what follows
from the listing and look again afterwards: of several at the same time the last one to write sees what the others did.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass

from components.documents import parse_json
from components.errors import UserError
from components.progress import log
from components.storage import MANIFEST, VERSION, Entry, Manifest, Store
from components.storage.naming import seconds_of

LATEST = "latest.json"
SCHEMA = 1

#: How the names of model files end.
WEIGHTS = (".safetensors", ".ckpt")
#: How the name of a LoRA ends.
LORA = "-lora.safetensors"
_SETTLED_AFTER = 8  # looks; two are enough unless others write


@dataclass(frozen=True)
class Latest:
    """``latest.json``."""

    version: str
    file: str  #: the weights' name in the version's tree
    sha256: str  #: of the weights
    withdrawn: frozenset[str] = frozenset()  #: versions that were taken back

    def to_json(self) -> bytes:
        """The object as it is stored."""
        published = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds_of(self.version)))
        data = {"schema": SCHEMA, "version": self.version, "published": published, "file": self.file}
        data |= {"sha256": self.sha256, **({"withdrawn": sorted(self.withdrawn)} if self.withdrawn else {})}
        return (json.dumps(data, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, place: str) -> Latest:
        """Read `to_json`'s bytes, which lie at `place`.

        Raises:
            UserError: where they are something else.
        """
        try:
            content = parse_json(data)
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']!r}, known here: {SCHEMA}")
            found = cls(content["version"], content["file"], content["sha256"], frozenset(content.get("withdrawn", ())))
            if not VERSION.fullmatch(found.version):
                raise ValueError(f"version {found.version!r}")
            if not all(isinstance(text, str) for text in (found.file, found.sha256, *found.withdrawn)):
                raise TypeError("a file, a digest or a version that is no text")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{place}: not a reference to a published model ({error!r}); delete it, then promote a version"
            ) from None
        return found


def names(store: Store) -> list[str]:
    """Names below which something was published, or is being published, sorted."""
    return list(store.at("models").folders())


def place_of(store: Store, name: str) -> Store:
    """``<store>/models/<name>``.

    Raises:
        UserError: where nothing is published under the name; the message gives the known ones.
    """
    known = names(store)
    if name not in known:
        there = f"there are: {', '.join(known)}" if known else "there is none yet; a run publishes one"
        raise UserError(f"{name}: no model of this name is published in {store.uri} ({there})")
    return store.at("models", name)


def versions(models: Store) -> list[str]:
    """The complete versions at ``<store>/models/<name>``, the oldest first."""
    return sorted(
        name for info in models.list() if (name := _complete(info.key)) is not None and VERSION.fullmatch(name)
    )


def manifest(models: Store, version: str) -> Manifest:
    """What a version holds.

    Raises:
        UserError: where there is no such version (the message gives the known ones), or its manifest is damaged.
    """
    found = models.at(version).manifest() if VERSION.fullmatch(version) else None
    if found is None:
        known = versions(models)
        if not known:
            raise UserError(f"{models.uri}: no version is complete; the next run publishes one")
        raise UserError(f"{models.uri}: no version {version!r}; versions: {', '.join(known[-10:])}")
    return found


def weights(found: Manifest, place: str) -> Entry:
    """The model file among a version's files.

    Raises:
        UserError: where there is none, or more than one.
    """
    files = [entry for entry in found.files if entry.path.endswith(WEIGHTS) and "/" not in entry.path]
    if len(files) != 1:
        raise UserError(f"{place}: holds {len(files)} model files, not one; publish it again")
    return files[0]


def latest(models: Store) -> Latest | None:
    """What ``latest.json`` says; None where there is none.

    Raises:
        UserError: where it is damaged.
    """
    data = models.get_bytes(LATEST)
    return None if data is None else Latest.from_json(data, models.uri_of(LATEST))


def settle(models: Store) -> Latest:
    """Point ``latest.json`` at the newest complete version that was not taken back.

    Raises:
        UserError: where no version is complete.
    """
    for _ in range(_SETTLED_AFTER):
        current = _latest_or_none(models)
        withdrawn = current.withdrawn if current else frozenset()
        known = versions(models)
        left = [version for version in known if version not in withdrawn]
        if not known:
            raise UserError(f"{models.uri}: no version is complete; the next run publishes one")
        wanted = (left or known)[-1]
        if current is not None and current.version == wanted:
            return current
        _point(models, wanted, withdrawn.intersection(known))
    raise UserError(f"{models.uri_of(LATEST)}: others keep writing it; run again when they have ended")


def promote(models: Store, version: str) -> Latest:
    """Make `version` the latest: newer ones are taken back, and it is not any more, if it was.

    Returns:
        What is latest now: a still newer version, where one was published meanwhile.

    Raises:
        UserError: where there is no such version.
    """
    manifest(models, version)
    current, known = _latest_or_none(models), versions(models)
    before = current.withdrawn.intersection(known) if current else frozenset()
    newer = frozenset(name for name in known if name > version)
    _point(models, version, (before | newer) - {version})
    return settle(models)


def rollback(models: Store) -> Latest:
    """Make the version before the latest one the latest; versions taken back are passed over.

    Raises:
        UserError: where there is none before it.
    """
    current = settle(models)
    earlier = [name for name in versions(models) if name < current.version and name not in current.withdrawn]
    if not earlier:
        raise UserError(f"{models.uri}: there is no version before {current.version} to go back to; nothing is changed")
    return promote(models, earlier[-1])


def _complete(key: str) -> str | None:
    version, _, rest = key.partition("/")
    return version if rest == MANIFEST else None


def _latest_or_none(models: Store) -> Latest | None:
    """As `latest`; a damaged one is written anew rather than stopping whoever has a version to name."""
    try:
        return latest(models)
    except UserError as error:
        log(f"{error.problems[0].partition(';')[0]}; it is written anew")
        return None


def _point(models: Store, version: str, withdrawn: Collection[str]) -> None:
    entry = weights(manifest(models, version), models.at(version).uri)
    data = Latest(version, entry.path, entry.sha256, frozenset(withdrawn)).to_json()
    models.put_bytes(LATEST, data, content_type="application/json")
