"""The whole pipeline in containers, by the command line, beside the same run as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from components import images
from pipelines.containers.daemon import STARTED_BY
from tests.conftest import ROOT
from tests.environment import without_store
from tests.pipelines.test_end_to_end import FAST, ran

if TYPE_CHECKING:
    import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

#: Whatever it is worth, a trained checkpoint is taken: an untrained one would be the same by itself.
SETTINGS = (*FAST, "select_best.allow_base=false", "convert.dtype=fp32")

Start = Callable[..., "subprocess.Popen[str]"]


class Watch:
    """What Docker tells of our containers while it is on: how each was made, and with which status it ended."""

    def __init__(self, daemon: docker.DockerClient) -> None:
        self.made: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.started = threading.Event()
        self._daemon = daemon
        self._events = daemon.events(decode=True, filters={"label": STARTED_BY, "event": ["start", "die"]})

    def listen(self) -> None:
        for event in self._events:
            if event["Action"] == "die":
                self.statuses.append(int(event["Actor"]["Attributes"]["exitCode"]))
                continue
            self.made.append(self._daemon.api.inspect_container(event["id"]))
            self.started.set()

    def close(self) -> None:
        self._events.close()


@contextlib.contextmanager
def watched(daemon: docker.DockerClient) -> Iterator[Watch]:
    watch = Watch(daemon)
    thread = threading.Thread(target=watch.listen, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.close()
        thread.join(5)


@pytest.fixture(scope="module")
def named(built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the tests' images."""
    file = tmp_path_factory.mktemp("named") / "images.yaml"
    file.write_text(yaml.safe_dump(built))
    return file


@pytest.fixture(scope="module")
def start(named: Path) -> Start:
    def call(workdir: Path, *flags: str, settings: tuple[str, ...] = SETTINGS) -> subprocess.Popen[str]:
        sets = [part for setting in settings for part in ("--set", setting)]
        environment = {**without_store(), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", "run", "--workdir", str(workdir), *sets, *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=workdir, env=environment,
        )  # fmt: skip

    return call


@pytest.fixture(scope="module")
def in_containers(
    start: Start, named: Path, daemon: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, Watch]:
    """A run on the sample set: its workdir, what it said, and what Docker was asked for."""
    workdir = tmp_path_factory.mktemp("containers")
    with watched(daemon) as watch:
        run = start(workdir, "--runner", "docker", "--images", str(named))
        said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    return workdir, said, watch


def model(workdir: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((workdir / "sample-boards" / "run.json").read_text())["model"]
    return record


def test_containers_make_the_same_weights_as_processes(
    in_containers: tuple[Path, str, Watch], start: Start, built: dict[str, str], daemon: docker.DockerClient,
    tmp_path: Path,
) -> None:  # fmt: skip
    import torch

    code = "import torch; print(torch.__version__)"
    theirs = daemon.containers.run(built["train"], ["-c", code], entrypoint=["python3"], remove=True).decode().strip()
    if theirs != torch.__version__:
        pytest.skip(f"other builds of torch make other bits: {theirs} in the image, {torch.__version__} here")
    workdir, said, _ = in_containers
    assert ran(said) == list(images.STEPS)
    (drawn,) = (workdir / ".local").glob("sample-*")
    shutil.copytree(drawn, tmp_path / ".local" / drawn.name)
    run = start(tmp_path)
    here, _ = run.communicate(timeout=500)
    assert run.returncode == 0, here
    assert model(workdir)["step"] == model(tmp_path)["step"] > 0
    assert model(workdir)["tensors_digest"] == model(tmp_path)["tensors_digest"]


def test_every_container_was_confined(in_containers: tuple[Path, str, Watch]) -> None:
    workdir, _, watch = in_containers
    assert [made["Config"]["Labels"]["org.opencontainers.image.title"] for made in watch.made] == [
        f"defect-diffusion {step}" for step in images.STEPS
    ]
    writable = str(workdir / ".local" / "artifacts")
    for made in watch.made:
        host = made["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert "size=" in host["Tmpfs"]["/tmp"]
        user = int(made["Config"]["User"].partition(":")[0])
        assert user == (os.geteuid() or user) != 0
        assert [m["Destination"] for m in made["Mounts"] if m["RW"]] == [writable]
        assert all(m["Source"] == m["Destination"] for m in made["Mounts"])
    assert watch.statuses == [0] * len(images.STEPS)


def test_an_image_that_was_built_anew_is_not_answered_from_the_cache(
    in_containers: tuple[Path, str, Watch], start: Start, named: Path, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    workdir, _, _ = in_containers
    written = yaml.safe_load(named.read_text())
    (tmp_path / "Dockerfile").write_text(f"FROM {written['convert']}\nLABEL anew=yes\n")
    image, _ = daemon.images.build(path=str(tmp_path), rm=True)
    file = tmp_path / "images.yaml"
    file.write_text(yaml.safe_dump({**written, "convert": image.id}))
    try:
        run = start(workdir, "--runner", "docker", "--images", str(file))
        said, _ = run.communicate(timeout=300)
    finally:
        daemon.images.remove(str(image.id))
    assert run.returncode == 0, said
    assert ran(said) == ["snapshot", "convert"]


def test_an_interrupted_run_stops_its_container_which_ends_by_itself(
    in_containers: tuple[Path, str, Watch], start: Start, named: Path, daemon: docker.DockerClient
) -> None:
    """The container is stopped as ``docker stop`` does it: SIGTERM, and SIGKILL where that is not heeded."""
    workdir, _, _ = in_containers
    longer = (*SETTINGS, "train.max_train_steps=100000", "train.checkpointing_steps=50000")
    with watched(daemon) as watch:
        run = start(workdir, "--runner", "docker", "--images", str(named), settings=longer)
        assert run.stdout is not None
        said = ""
        for line in run.stdout:
            said += line
            if re.search(r"  training +\d+/", line):
                break
        else:
            pytest.fail(said)
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=120)
    assert run.returncode == 130, rest
    assert watch.statuses == [0, 128 + signal.SIGTERM], "snapshot, and train as its README says"
    assert daemon.containers.list(all=True, filters={"label": f"{STARTED_BY}={run.pid}"}) == []
