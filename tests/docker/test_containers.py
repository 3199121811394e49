"""How containers are made and run, and what stands in their way: daemon, images, network, places."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components import images
from components.errors import UserError
from pipelines import commands
from pipelines.config import PipelineConfig, load
from pipelines.containers import confinement
from pipelines.containers import daemon as daemons
from pipelines.containers.runner import Containers
from tests.conftest import ROOT
from tests.environment import forget_store

if TYPE_CHECKING:
    import docker

EMBEDDED = {"STORE_ENDPOINT_URL": "http://127.0.0.1:1", "STORE_ACCESS_KEY_ID": "k", "STORE_SECRET_ACCESS_KEY": "s"}
INFO = {"MemTotal": 8_000_000_000, "SecurityOptions": ["name=seccomp,profile=default"], "Runtimes": {"runc": {}}}


@pytest.fixture(autouse=True)
def no_store_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_store(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    """Settings with a data set and a base model in folders of their own."""
    for name in ("data", "base"):
        (tmp_path / name).mkdir()
    return load("quickstart", [f"dataset={tmp_path}/data", f"base_model={tmp_path}/base"])


def arguments(
    config: PipelineConfig, tmp_path: Path, store: Mapping[str, str] = EMBEDDED, info: Mapping[str, Any] = INFO
) -> dict[str, Any]:
    return confinement.arguments(config, tmp_path / "artifacts", store, info)


def test_places_of_the_user_are_read_only_at_their_own_paths(config: PipelineConfig, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"w")
    evaluate = config.evaluate.model_copy(update={"inception": f"{tmp_path}/weights.pth", "clip": "hf://a/b"})
    made = arguments(config.model_copy(update={"evaluate": evaluate}), tmp_path)
    mounts = {m["Target"]: m["ReadOnly"] for m in made["mounts"] if m["Target"].startswith(str(tmp_path))}
    assert all(m["Source"] == m["Target"] for m in made["mounts"])
    assert mounts == {
        f"{tmp_path}/artifacts": False,
        f"{tmp_path}/data": True,
        f"{tmp_path}/base": True,
        f"{tmp_path}/weights.pth": True,
    }


def test_what_describes_a_single_file_is_seen_with_it(config: PipelineConfig, tmp_path: Path) -> None:
    folder = tmp_path / "single"
    (folder / "config").mkdir(parents=True)
    for name in ("model.safetensors", "model.yaml", "other.yaml"):
        (folder / name).write_bytes(b"x")
    made = arguments(config.model_copy(update={"base_model": f"{folder}/model.safetensors"}), tmp_path)
    mounted = [m["Target"] for m in made["mounts"] if m["Target"].startswith(f"{folder}/")]
    assert sorted(mounted) == [f"{folder}/config", f"{folder}/model.safetensors", f"{folder}/model.yaml"]


def test_a_place_in_a_store_is_not_mounted(config: PipelineConfig, tmp_path: Path) -> None:
    remote = config.model_copy(update={"dataset": "s3://b/data", "base_model": "s3://b/base"})
    assert [m["Target"] for m in arguments(remote, tmp_path)["mounts"] if not m["ReadOnly"]] == [
        f"{tmp_path}/artifacts"
    ]


def test_a_relative_place_is_refused(config: PipelineConfig, tmp_path: Path) -> None:
    evaluate = config.evaluate.model_copy(update={"inception": "weights/w.pth"})
    with pytest.raises(UserError, match=r"evaluate\.inception: .*absolute"):
        arguments(config.model_copy(update={"evaluate": evaluate}), tmp_path)


@pytest.mark.parametrize(
    ("store", "own", "network"),
    [
        (EMBEDDED, {}, "host"),
        ({}, {"STORE_ENDPOINT_URL": "http://localhost:9000"}, "host"),
        ({}, {"AWS_ENDPOINT_URL": "http://[::1]:9000"}, "host"),
        ({}, {"STORE_ENDPOINT_URL": "https://s3.example.com"}, "bridge"),
        ({}, {}, "bridge"),
    ],
)
def test_the_machines_network_is_shared_where_the_store_is_on_it(
    store: dict[str, str], own: dict[str, str], network: str, config: PipelineConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert arguments(config, tmp_path, store)["network_mode"] == network


def test_a_rootless_daemon_cannot_share_it(config: PipelineConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rootless"):
        arguments(config, tmp_path, info={**INFO, "SecurityOptions": ["name=rootless"]})


def test_keys_of_other_stores_stay_outside(
    config: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("STORE_CA_BUNDLE", f"{tmp_path}/ca.pem")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("UNRELATED_TOKEN", "canary")
    embedded = arguments(config, tmp_path)
    assert "canary" not in str(embedded["environment"])
    assert embedded["environment"]["OMP_NUM_THREADS"] == "3"
    own = arguments(config, tmp_path, {})
    assert own["environment"]["AWS_SECRET_ACCESS_KEY"] == "canary"
    assert "UNRELATED_TOKEN" not in own["environment"]
    assert f"{tmp_path}/ca.pem" in [m["Target"] for m in own["mounts"] if m["ReadOnly"]]


def test_without_a_daemon_the_message_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(UserError, match="unix:///nowhere/docker.sock: no Docker daemon answers there; start it"):
        daemons.connect()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not use Docker")
def test_who_may_not_use_docker_is_told_so(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        # Below /tmp, since pytest's own folders are closed to others.
        place = Path("/tmp") / f"docker-test-{os.getpid()}.sock"
        listener.bind(str(place))
        try:
            place.chmod(0o600)
            code = (
                "import os, sys\nfrom pipelines.containers import daemon\nfrom components.errors import UserError\n"
                "import docker, pipelines.config\nos.setuid(65534)\n"
                "try:\n    daemon.connect()\nexcept UserError as error:\n    print(error)\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                env={**os.environ, "DOCKER_HOST": f"unix://{place}"},
            )  # fmt: skip
        finally:
            place.unlink()
    assert "may not use Docker; join the group `docker`" in done.stdout, done.stderr


def test_an_images_file_is_checked_whole(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text("crop: a:1\ntrian: b:1\n")
    with pytest.raises(UserError) as caught:
        daemons.references(file)
    assert "trian is no step" in str(caught.value)
    assert "no image of train" in str(caught.value)
    flags = argparse.Namespace(runner="host", images=file)
    with pytest.raises(UserError, match="--runner docker"):
        commands._make_runner(flags)


@pytest.mark.docker
def test_images_that_are_not_here_are_named_together_with_the_remedy(daemon: docker.DockerClient) -> None:
    named = {step: images.image(step, "never-built") for step in images.STEPS}
    with pytest.raises(UserError, match="make images") as caught:
        daemons.resolve(daemon, named)
    assert all(reference in str(caught.value) for reference in named.values())


#: What a step may do, tried out by one that is up to no good.
TRIES = """
import pathlib, sys, time
root, data = sys.argv[1:]
status = pathlib.Path("/proc/self/status").read_text()
print([line for line in status.splitlines() if line.startswith(("Uid", "CapEff", "NoNewPrivs"))])
for place in (root, data, "/tmp", "/app", "/opt/venv", "/usr/bin"):
    try:
        (pathlib.Path(place) / "written").write_text("x")
        print("wrote", place)
    except OSError as error:
        print("kept from", place, error.strerror)
# Lives for long enough that its memory can be looked at.
sys.stdout.flush()
time.sleep(1)
print("last line", end="")
sys.exit(75)
"""


@pytest.mark.docker
@pytest.mark.timeout(1500)
def test_a_container_may_write_its_outputs_and_nothing_else(
    daemon: docker.DockerClient, built: dict[str, str], config: PipelineConfig, tmp_path: Path
) -> None:
    runner = Containers(daemon, daemons.resolve(daemon, built), arguments(config, tmp_path, info=daemon.info()))
    said = io.StringIO()
    root, data = f"{tmp_path}/artifacts", f"{tmp_path}/data"
    run = runner.run("crop", runner.image("crop"), ["python3", "-c", TRIES, root, data], EMBEDDED, said)
    lines = [line.strip() for line in said.getvalue().splitlines()]
    assert run.status == 75
    assert "CapEff:\\t0000000000000000" in lines[0]
    assert "NoNewPrivs:\\t1" in lines[0]
    assert "Uid:\\t0" not in lines[0]
    assert [line for line in lines if line.startswith("wrote")] == [f"wrote {root}", "wrote /tmp"]
    assert lines[-1] == "last line"
    assert run.peak_bytes > 1_000_000
    assert daemon.containers.list(all=True, filters={"label": f"{daemons.STARTED_BY}={os.getpid()}"}) == []


@pytest.mark.docker
def test_what_a_killed_run_left_is_removed_and_a_running_ones_is_not(daemon: docker.DockerClient, base: str) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left, used = (
        daemon.containers.create(base, ["sleep", "60"], labels={daemons.STARTED_BY: str(pid)})
        for pid in (int(gone.stdout), os.getpid())
    )
    try:
        daemons.remove_left_behind(daemon)
        known = {container.id for container in daemon.containers.list(all=True)}
        assert left.id not in known
        assert used.id in known
    finally:
        used.remove(force=True)
