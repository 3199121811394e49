"""A place in the store for each test."""

from __future__ import annotations

import uuid

import pytest

from components.storage import Store


@pytest.fixture
def place(store: Store) -> Store:
    return store.at("evaluate", uuid.uuid4().hex)
