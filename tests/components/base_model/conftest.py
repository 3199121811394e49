"""The tiny base as a repository of a hub on the loopback interface, with what real repositories hold beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer, served
from tests.tiny_model import write_pipeline


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `hub` serves. Read-only."""
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

    with served(HubServer("maker/tiny", repository)) as server:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        # Read when the library is imported; without this it looks up who is calling, at the real hub.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield server
