"""A Docker daemon, and in it the images of all steps. Without a daemon or a base image, what needs them is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components import images
from components.errors import UserError
from pipelines.container_images.build import BASE
from pipelines.containers.daemon import connect
from tests.conftest import ROOT

if TYPE_CHECKING:
    import docker

#: The images of the tests, beside those that a user may have built under the release tag. They stay, and with them
#: Docker's cache of their layers.
TAG = "test"


@pytest.fixture(scope="session")
def daemon() -> Iterator[docker.DockerClient]:
    """A client of the daemon, as the runner gets it."""
    try:
        client = connect()
    except UserError as error:
        pytest.skip(str(error))
    yield client
    client.close()


@pytest.fixture(scope="session")
def base(daemon: docker.DockerClient) -> str:
    """The base image that the images are built from, which is here already: no registry is asked."""
    from docker.errors import DockerException, ImageNotFound

    name = os.environ.get("DOCKER_TEST_BASE", BASE)
    try:
        daemon.images.get(name)
    except ImageNotFound:
        pytest.skip(f"no image {name} here: docker pull {name}, or docker/standin-base.sh {name}")
    try:
        daemon.containers.run(
            name, ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "/tmp", "six"], remove=True
        )
    except DockerException as error:
        pytest.skip(f"pip reaches no package index from a container of {name}: {error}")
    return name


@pytest.fixture(scope="session")
def built(base: str) -> dict[str, str]:
    """Step → its image, built as `make images` builds it; wheels come from pip's folder of them, where it has one."""
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    folder = ["--wheels", wheels] if wheels and any(Path(wheels).glob("*.whl")) else []
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.container_images", "build", "--tag", TAG, "--base", base, *folder],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return {step: images.image(step, TAG) for step in images.STEPS}


@pytest.fixture(scope="session")
def tools(built: dict[str, str]) -> str:
    """The image of the command line, built with the others."""
    return images.image(images.TOOLS, TAG)


@pytest.fixture(scope="session")
def inspected(built: dict[str, str], daemon: docker.DockerClient) -> dict[str, dict[str, Any]]:
    """Step → what Docker knows of its image."""
    return {step: daemon.images.get(image).attrs for step, image in built.items()}
