"""What is reachable: the versions that stay, what they refer to, and what is under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components import leases
from components.models.record import ModelRecord
from components.progress import duration
from pipelines.cleanup.contents import Contents, Item
from pipelines.cleanup.policy import Policy


@dataclass(frozen=True)
class Roots:
    """The versions that stay, and what they refer to."""

    kept: Mapping[tuple[str, str], str]  #: name and version → why
    runs: Mapping[str, str]  #: fingerprint → a kept version made from it, ``name@version``
    spent: Mapping[str, str]  #: the same of versions that go
    checkpoints: frozenset[str]  #: places
    bases: frozenset[str]  #: places
    opaque: str  #: a kept version that may refer to anything; "" where there is none


def roots_of(contents: Contents, policy: Policy) -> Roots:
    """The roots of a clean-up by `policy`."""
    kept = _kept_versions(contents, policy)
    records: dict[tuple[str, str], ModelRecord | None] = {
        (name, version): record for name, found in contents.versions.items() for version, record in found.items()
    }
    runs, spent = {}, {}
    checkpoints, bases, opaque = set(), set(), ""
    for (name, version), record in records.items():
        if record is None:
            opaque = f"{name}@{version}" if (name, version) in kept else opaque
        elif (name, version) not in kept:
            spent[record.run] = f"{name}@{version}"
        else:
            runs[record.run] = f"{name}@{version}"
            checkpoint, base = contents.place_of(record.checkpoint_uri), contents.place_of(record.base_uri)
            if base is None or (checkpoint is None and record.checkpoint_uri is not None):
                # Named by another address of this store, perhaps: what it means cannot be told from here.
                opaque = f"{name}@{version}"
            checkpoints |= {checkpoint} if checkpoint is not None else set()
            bases |= {base} if base is not None else set()
    return Roots(kept, runs, spent, frozenset(checkpoints), frozenset(bases), opaque)


def _kept_versions(contents: Contents, policy: Policy) -> dict[tuple[str, str], str]:
    kept: dict[tuple[str, str], str] = {}
    for name, found in contents.versions.items():
        ordered = sorted(found)
        newest = ordered[-max(policy.keep, 1) :]
        for version in ordered:
            record = found[version]
            if contents.latest.get(name) == version:
                kept[name, version] = "the latest version"
            elif version in newest:
                kept[name, version] = f"among the {policy.keep} newest versions"
            elif contents.held(leases.model_scope(name)):
                kept[name, version] = "the model is being worked on"
            elif record is not None and contents.held(leases.run_scope(record.run)):
                kept[name, version] = "its run is being worked on"
    return kept


def under_way(contents: Contents, policy: Policy, scope: str, items: Iterable[Item]) -> str:
    """Why a scope is to be left alone; "" where it is not."""
    if contents.held(scope):
        return "being worked on"
    quiet = contents.quiet(scope, items)
    if quiet < policy.grace:
        return f"last sign of life {duration(max(quiet, 0))} ago, less than the {duration(policy.grace)} of --grace"
    return ""
