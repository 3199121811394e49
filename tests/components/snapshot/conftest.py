"""A place in the store for each test, and a data set with something like a base model."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from components.storage import Store
from tests.components.crop.conftest import Boards


@pytest.fixture
def home(store: Store) -> Store:
    """An empty place in the store, which the steps reach through the environment."""
    return store.at(uuid.uuid4().hex)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set and, in ``base``, something in the layout of a diffusers model."""
    Boards(tmp_path / "data", images=12)
    (tmp_path / "base" / "unet").mkdir(parents=True)
    (tmp_path / "base" / "model_index.json").write_text("{}")
    (tmp_path / "base" / "unet" / "config.json").write_text("{}")
    return tmp_path
