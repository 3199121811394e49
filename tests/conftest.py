"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from components.storage import Store
    from pipelines.embedded_store import EmbeddedStore

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real defect images, which are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion folder with random weights: v-prediction, zero terminal SNR, 64 px. Read-only."""
    from tests.tiny_model import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """The embedded server, one for all tests: each writes below a prefix of its own."""
    from pipelines.embedded_store import EmbeddedStore

    with EmbeddedStore(tmp_path_factory.mktemp("embedded-store")) as server:
        yield server


@pytest.fixture(scope="session")
def store(embedded_store: EmbeddedStore) -> Iterator[Store]:
    """The embedded server's bucket; from here on `Store.from_env` finds it by the environment too."""
    from components.storage import Store

    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("STORE_", "AWS_")):
                patch.delenv(name)
        for name, value in embedded_store.environ.items():
            patch.setenv(name, value)
        yield Store.from_env(embedded_store.uri)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow above 64 KiB: what a full disk does to a writer, for whoever runs the tests."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
