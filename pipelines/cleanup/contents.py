"""What the store holds, read once: the listing, and what the records in it refer to.

Reading is all or nothing: a record that cannot be read could refer to anything, so nothing is planned without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from components import leases
from components.artifacts import CheckpointIndex, from_json
from components.documents import parse_json
from components.errors import UserError
from components.models.catalog import LATEST, Latest
from components.models.record import ModelRecord, record_of
from components.storage import MANIFEST, VERSION, Manifest
from components.versions import pushed

#: What an object's content is, None where it is absent; as `Store.get_bytes`.
Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Item:
    """An object of the store."""

    key: str  #: below the store's root
    bytes: int
    modified: float  #: seconds since 1970, by the store's clock


@dataclass(frozen=True)
class Contents:
    """The store at one moment. Places are keys without the slash at their end."""

    uri: str  #: of the store's root
    items: Mapping[str, Item]  #: key → object
    now: float  #: by the store's clock
    latest: Mapping[str, str] = field(default_factory=dict)  #: model's name → version that ``latest.json`` names
    #: model's name → complete version → its record; None where it does not say how it was made
    versions: Mapping[str, Mapping[str, ModelRecord | None]] = field(default_factory=dict)
    indexes: Mapping[str, CheckpointIndex] = field(default_factory=dict)  #: fingerprint → index of the finished run
    #: data set's name → keys of the contents that its versions refer to
    datasets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    bases: frozenset[str] = frozenset()  #: base models that train put there, places
    leases: Mapping[str, tuple[float, bool]] = field(default_factory=dict)  #: as `Leases`

    def quiet(self, scope: str, items: Iterable[Item]) -> float:
        """Seconds since the last sign of life of a scope: its leases, and its objects."""
        return self.now - max([self.leases.get(scope, (0.0, False))[0], *(item.modified for item in items)])

    def held(self, scope: str) -> bool:
        """Whether someone works with the scope now."""
        return self.leases.get(scope, (0.0, False))[1]

    def place_of(self, uri: str | None) -> str | None:
        """The place that a URI names; None where it is not in this store."""
        if uri is None or not uri.startswith(f"{self.uri}/"):
            return None
        return uri.removeprefix(f"{self.uri}/").rstrip("/")


#: Scope → when it was held last, and whether it is being held.
Leases = Mapping[str, tuple[float, bool]]


def read_leases(listing: Iterable[Item], get: Read, now: float) -> Leases:
    """Who works with what. To be called before the store is listed: what ends afterwards has left its work there."""
    found: dict[str, tuple[float, bool]] = {}
    for item in listing:
        parts = item.key.split("/")
        if len(parts) == 3 and parts[0] == leases.PREFIX:
            last, running = found.get(parts[1], (item.modified, False))
            alive = now - item.modified < leases.STALE and _running(get(item.key))
            found[parts[1]] = max(last, item.modified), running or alive
    return found


def _running(data: bytes | None) -> bool:
    """Whether a lease says so; one that cannot be read does."""
    try:
        return data is not None and bool(parse_json(data)["running"])
    except (ValueError, KeyError, TypeError):
        return True


def read(uri: str, listing: Iterable[Item], get: Read, now: float, held: Leases) -> Contents:
    """Read every record that refers to something.

    Args:
        held: who works with what, as `read_leases` gave it before.

    Raises:
        UserError: for records that are damaged, all of them, and for one that vanished meanwhile.
        Unavailable: as `get` does.
    """
    items = {item.key: item for item in sorted(listing, key=lambda item: item.key)}
    reading = _Reading(uri, items, get)
    contents = Contents(
        uri,
        items,
        now,
        latest=reading.latest(),
        versions=reading.versions(),
        indexes=reading.indexes(),
        datasets=reading.datasets(),
        bases=reading.bases(),
        leases=held,
    )
    if reading.problems:
        raise UserError(
            *reading.problems, "nothing was deleted: what cannot be read may refer to anything. Repair or delete it"
        )
    return contents


class _Reading:
    """Reads the records of one listing and gathers what is wrong with them."""

    def __init__(self, uri: str, items: Mapping[str, Item], get: Read) -> None:
        self.uri, self.items, self.get = uri, items, get
        self.problems: list[str] = []
        #: Keys by the parts of their paths.
        self.parts = [(key, key.split("/")) for key in items]

    def content(self, key: str) -> bytes:
        """An object of the listing."""
        data = self.get(key)
        if data is None:
            raise UserError(f"{self.uri}/{key}: vanished while the store was looked at; nothing was deleted, run again")
        return data

    def manifest(self, key: str) -> Manifest | None:
        data = self.content(key)
        try:
            return Manifest.from_json(data, f"{self.uri}/{key}")
        except UserError as error:
            self.problems += error.problems
            return None

    def latest(self) -> dict[str, str]:
        found = {}
        for key, parts in self.parts:
            if len(parts) == 3 and parts[0] == "models" and parts[2] == LATEST:
                data = self.content(key)
                try:
                    found[parts[1]] = Latest.from_json(data, f"{self.uri}/{key}").version
                except UserError as error:
                    self.problems += error.problems
        return found

    def versions(self) -> dict[str, dict[str, ModelRecord | None]]:
        found: dict[str, dict[str, ModelRecord | None]] = {}
        for key, parts in self.parts:
            if len(parts) == 4 and parts[0] == "models" and parts[3] == MANIFEST and VERSION.fullmatch(parts[2]):
                manifest = self.manifest(key)
                record = record_of(manifest.made_by) if manifest is not None else None
                found.setdefault(parts[1], {})[parts[2]] = record
        return found

    def indexes(self) -> dict[str, CheckpointIndex]:
        found = {}
        for key, parts in self.parts:
            if len(parts) == 3 and parts[0] == "train" and parts[2] == "index.json":
                data = self.content(key)
                try:
                    found[parts[1]] = from_json(data, CheckpointIndex, f"{self.uri}/{key}")
                except UserError as error:
                    self.problems += error.problems
        return found

    def datasets(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for _, parts in self.parts:
            if len(parts) == 3 and parts[0] == "datasets" and parts[2] == pushed.MARKER:
                found[parts[1]] = set()
        for key, parts in self.parts:
            if len(parts) == 4 and parts[0] == "datasets" and parts[2] == "versions" and parts[1] in found:
                manifest = self.manifest(key)
                if manifest is not None:
                    home = f"datasets/{parts[1]}"
                    found[parts[1]] |= {f"{home}/{pushed.object_key(entry.sha256)}" for entry in manifest.files}
        return {name: frozenset(keys) for name, keys in found.items()}

    def bases(self) -> frozenset[str]:
        found = set()
        for key, parts in self.parts:
            if len(parts) == 3 and parts[0] == "base-models" and parts[2] == MANIFEST:
                manifest = self.manifest(key)
                if manifest is not None and manifest.made_by.get("step") == "train":
                    found.add(f"base-models/{parts[1]}")
        return frozenset(found)
