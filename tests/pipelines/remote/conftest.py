"""A server for each test, and an environment that says nothing of another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.cluster import profile as profiles
from pipelines.config import PipelineConfig
from pipelines.remote import access, follow, versions
from pipelines.remote.access import Access
from pipelines.remote.server import Server
from tests.environment import forget_store
from tests.pipelines.remote.kfp_server import KfpServer

#: Settings that a cluster can use; nobody looks into these places.
SETTINGS = (
    "--set=store=s3://bucket", "--set=dataset=s3://bucket/datasets/boards",
    "--set=base_model=s3://bucket/base-models/sd15", "--set=model_name=boards",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("KF_PIPELINES_", "KFP_")):
            monkeypatch.delenv(name)
    forget_store(monkeypatch)
    # A kubectl that is installed here asks nobody's cluster.
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr(access, "CONTEXT", tmp_path / "context.json")
    monkeypatch.setattr(follow, "LOOK", 0.0)


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer() as server:
        yield server


@pytest.fixture
def server(kfp: KfpServer) -> Server:
    return Server(Access(host=kfp.url), kfp.url)


@pytest.fixture(scope="session")
def compiled() -> str:
    """The pipeline for the kind profile."""
    return _compiled(PipelineConfig(), profiles.load("kind"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that compile the same pipeline once."""
    monkeypatch.setattr(versions, "compiled", _compiled)


_made: dict[str, str] = {}
_compile = versions.compiled


def _compiled(config: PipelineConfig, profile: profiles.Profile) -> str:
    key = f"{config.train.num_processes} {config.evaluate.shards} {profile.model_dump_json()}"
    if key not in _made:
        _made[key] = _compile(config, profile)
    return _made[key]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that puts a kubectl on the PATH which is the shell script given; it is the only program there."""

    def put(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / "kubectl"
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return path

    return put
