"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.environment import forget_store

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

    from components.storage import Store
    from pipelines.embedded_store import EmbeddedStore
    from tests.hub_server import HubServer

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Let an interrupt end the processes that tests start: a shell has it ignored by what it runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Give each of several processes (`-n`) a file of tests at a time, and one of them all that ask Docker's daemon."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/docker" if file.startswith("tests/docker/") else file

    return Files(config, log)


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
        forget_store(patch)
        for name, value in embedded_store.environ.items():
            patch.setenv(name, value)
        yield Store.from_env(embedded_store.uri)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a repository of the hub, with what real ones hold beside it: what `hub` serves. Read-only."""
    from tests.tiny_model import write_pipeline

    folder = write_pipeline(tmp_path_factory.mktemp("repository") / "tiny", widths=(32, 32, 32, 32))
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"):
        shutil.copyfile(unet, unet.with_name(name))
    (folder / "v1-5-pruned.safetensors").write_bytes(b"the same weights once more")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# Tiny\n", encoding="utf-8")
    return folder


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the environment names, and an empty cache."""
    from huggingface_hub import constants

    from tests.hub_server import HubServer, served

    with served(HubServer("maker/tiny", repository)) as server:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        # Read when the library is imported; without this it looks up who is calling, at the real hub.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield server


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow above 64 KiB: what a full disk does to a writer, for whoever runs the tests."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
