"""Objects that go or stay, by the reason why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from components.storage import MANIFEST
from pipelines.cleanup.contents import Item

_REFERENCES = (MANIFEST, "index.json")


@dataclass(frozen=True)
class Group:
    """Objects that go, or stay, for one reason."""

    what: str
    place: str
    why: str
    items: tuple[Item, ...]
    cached: bool = False  #: whether a result that KFP keeps may refer to it

    @property
    def bytes(self) -> int:
        """Size of all objects together."""
        return sum(item.bytes for item in self.items)

    @property
    def references(self) -> list[str]:
        """Keys of the objects that make readers look for the others."""
        return [item.key for item in self.items if item.key.rpartition("/")[2] in _REFERENCES]


@dataclass
class Plan:
    """Every object of a store, once. `goes` is in the order in which it has to go."""

    goes: list[Group] = field(default_factory=list)
    stays: list[Group] = field(default_factory=list)

    @property
    def new_generation(self) -> bool:
        """Whether what KFP keeps may refer to what goes."""
        return any(group.cached for group in self.goes)

    def go(self, what: str, place: str, why: str, items: Iterable[Item], cached: bool = False) -> None:
        """Add objects that go."""
        if found := tuple(items):
            self.goes.append(Group(what, place, why, found, cached))

    def stay(self, what: str, place: str, why: str, items: Iterable[Item]) -> None:
        """Add objects that stay."""
        if found := tuple(items):
            self.stays.append(Group(what, place, why, found))
