"""A place of its own for each test, and a faulty line to the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore
from tests.faults.line import Disturbance, Line

#: ``over(kind, times)``: the place, reached over a line that disturbs the first exchanges (`Disturbance`).
Over = Callable[..., Store]


@pytest.fixture
def place(store: Store) -> Store:
    """An empty prefix."""
    return store.at("test", uuid.uuid4().hex)


@pytest.fixture
def over(embedded_store: EmbeddedStore, place: Store) -> Iterator[Over]:
    lines: list[Line] = []

    def make(kind: Any, times: int, at: int = 0, **how: Any) -> Store:
        line = Line(embedded_store.environ["STORE_ENDPOINT_URL"])
        line.disturb(Disturbance(kind, at, times, **how))
        lines.append(line)
        return Store.from_env(place.uri, {**embedded_store.environ, "STORE_ENDPOINT_URL": line.url})

    yield make
    for line in lines:
        line.close()
    assert all(line.struck for line in lines), "a disturbance never came"
