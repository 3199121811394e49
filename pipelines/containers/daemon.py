"""This machine's Docker daemon: reached, asked for images, cleared of what a killed run left.

Not covered: daemons of other machines, whose containers see nothing of the folders here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components import images
from components.errors import UserError
from components.given_settings import read_yaml

if TYPE_CHECKING:
    import docker

#: On every container of ours: the process that started it.
STARTED_BY = "defect-diffusion.started-by"


def connect() -> docker.DockerClient:
    """A client of the daemon that DOCKER_HOST names, or of the usual one.

    Raises:
        UserError: when the daemon is not there, is no business of this user, or is another machine's.
    """
    import docker

    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        raise UserError(_unreachable(error)) from None
    if not client.api.base_url.startswith("http+docker://"):
        raise UserError(
            f"DOCKER_HOST: {os.environ.get('DOCKER_HOST')} is reached over the network, and its containers would not "
            "see the folders of this machine; unset it, or name a socket (unix:///var/run/docker.sock)"
        )
    return client


def _unreachable(error: Exception) -> str:
    place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if "PermissionError" in str(error) or "Permission denied" in str(error):
        return (
            f"{place}: this user may not use Docker; join the group `docker` (and log in again), or run as a user who "
            "may"
        )
    return f"{place}: no Docker daemon answers there; start it, or name another one's socket in DOCKER_HOST ({error})"


def references(file: Path | None) -> dict[str, str]:
    """Step → image reference: the release tags, or those that a YAML file names (`make push-images` writes one).

    Raises:
        UserError: for a file that cannot be read, names what is no step, or leaves one out.
    """
    if file is None:
        return {step: images.image(step) for step in images.STEPS}
    named = read_yaml(file)
    problems = [f"{file}: {key} is no step" for key in named if key not in images.STEPS]
    problems += [f"{file}: no image of {step}" for step in images.STEPS if not isinstance(named.get(step), str)]
    if problems:
        raise UserError(*problems)
    return named


def resolve(client: docker.DockerClient, named: Mapping[str, str]) -> dict[str, str]:
    """Step → ``name@sha256:<id>``, the id being the image's own: that of its configuration and contents.

    References with a digest are pulled where they are not here; a tag is this machine's business.

    Raises:
        UserError: naming all that are not here or cannot be had.
    """
    from docker.errors import APIError, ImageNotFound

    found, missing, problems = {}, [], []
    for step, reference in named.items():
        try:
            try:
                image = client.images.get(reference)
            except ImageNotFound:
                if "@" not in reference:
                    raise
                image = client.images.pull(reference)
            found[step] = f"{reference.partition('@')[0]}@{image.id}"
        except ImageNotFound:
            missing.append(reference)
        except APIError as error:
            problems.append(f"{reference}: cannot be pulled ({error.explanation or error})")
    if missing:
        problems.insert(0, f"no such images here: {', '.join(missing)}; `make images` builds them")
    if problems:
        raise UserError(*problems)
    return found


def remove_left_behind(client: docker.DockerClient) -> None:
    """Remove the containers of runs that were killed: nobody waits for them any more."""
    from docker.errors import APIError

    for container in client.containers.list(all=True, filters={"label": STARTED_BY}):
        if not Path("/proc", container.labels[STARTED_BY]).exists():
            with contextlib.suppress(APIError):
                container.remove(force=True)
