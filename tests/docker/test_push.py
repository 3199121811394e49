"""Pushing to a registry of the tests' own, and the file of digests that `compile` and the runner read."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components import images
from pipelines import free_ports
from pipelines.cluster import profile
from pipelines.container_images import __main__ as command_line
from pipelines.container_images.base import build_arguments
from pipelines.containers import daemon as daemons
from tests.conftest import ROOT

if TYPE_CHECKING:
    import docker

pytestmark = pytest.mark.docker

TAG = "push-test"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on this machine; its address."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (Debian's package of that name)")
    port = free_ports.remembered(tmp_path / "ports.json", ["registry"], 0)["registry"]
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen([program, "serve", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("the registry does not answer")
        yield f"127.0.0.1:{port}/team"
    finally:
        process.terminate()
        process.wait(10)


def tiny_image(daemon: docker.DockerClient, reference: str, content: str) -> None:
    """An image with one empty file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(content))
    name, _, tag = reference.rpartition(":")
    daemon.api.import_image_from_data(packed.getvalue(), repository=name, tag=tag)


@pytest.fixture
def stand_ins(daemon: docker.DockerClient) -> Iterator[dict[str, str]]:
    """Step → a tiny image under the name that `make images` would give it."""
    made = {step: images.image(step, TAG) for step in (*images.STEPS, images.TOOLS)}
    for step, reference in made.items():
        tiny_image(daemon, reference, step)
    yield made
    for image in daemon.images.list():
        if any(f":{TAG}" in tag for tag in image.tags):
            daemon.images.remove(str(image.id), force=True)


def test_pushed_images_are_compiled_and_run_by_their_digests(
    registry: str, stand_ins: dict[str, str], daemon: docker.DockerClient, tmp_path: Path
) -> None:
    file = tmp_path / "images.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.container_images", "push", "--registry", registry, "--tag", TAG,
         "--output", str(file)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    named = daemons.references(file)
    assert f"\n# tools: {registry}/defect-diffusion/tools@sha256:" in file.read_text(encoding="utf-8")
    assert all(reference.startswith(f"{registry}/defect-diffusion/") for reference in named.values())
    assert [profile.load("gpu", file).images.reference(step) for step in images.STEPS] == list(named.values())

    before = daemons.resolve(daemon, named)
    for image in {reference.rpartition("@")[2] for reference in before.values()}:
        daemon.images.remove(image, force=True)
    assert daemons.resolve(daemon, named) == before, "what is not here any more is pulled again"


@pytest.fixture
def pinned_base(registry: str, daemon: docker.DockerClient) -> Iterator[str]:
    """A tiny base in the registry, by its digest."""
    name = f"{registry}/base:{TAG}"
    tiny_image(daemon, name, "base")
    daemon.images.push(name)
    (digest,) = daemon.images.get(name).attrs["RepoDigests"]
    daemon.images.remove(name)
    yield f"{name}@{digest.rpartition('@')[2]}"
    daemon.images.remove(digest, force=True)


def test_a_release_is_pushed_with_the_digest_of_its_base(
    registry: str, stand_ins: dict[str, str], pinned_base: str, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    file = tmp_path / "images.yaml"
    push = ["--registry", registry, "--tag", TAG, "--output", str(file)]
    assert command_line.main(["push", "--release", *push]) == 2
    assert not file.exists()
    assert not [tag for image in daemon.images.list() for tag in image.tags if tag.startswith(f"{registry}/defect")]

    # What every image of the Dockerfile begins with, on a base that is fetched by its digest.
    stage = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").partition("FROM ${BASE} AS runtime\n")[2]
    text = "ARG BASE\nFROM ${BASE}\n" + stage.partition("\nFROM ")[0]
    for image in stand_ins.values():
        daemon.images.build(fileobj=io.BytesIO(text.encode()), tag=image, buildargs=build_arguments(pinned_base))
    assert command_line.main(["push", "--release", *push]) == 0
    assert f"\n# base: {pinned_base}\n" in file.read_text(encoding="utf-8")
    assert len(daemons.references(file)) == len(images.STEPS)


def test_what_was_never_built_is_not_pushed(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.container_images", "push", "--registry", "registry.invalid",
         "--tag", "never-built", "--output", str(tmp_path / "images.yaml")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "images.yaml").exists()
