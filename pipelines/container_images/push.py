"""Pushing the images to a registry, and writing down under which digests they are there."""

from __future__ import annotations

from pathlib import Path

from components import images
from components.errors import UserError
from pipelines.container_images import base
from pipelines.container_images.program import check, docker, inspect


def push(tag: str, registry: str, output: Path, release: bool = False) -> None:
    """Push the images; `output` gets a line ``step: registry/name@sha256:…`` each, once all are there.

    The tools' is a comment: the pipeline has no part of that name. So is the base of a release.

    Args:
        release: whether the images must be built from one base that was named by digest.

    Raises:
        UserError: without Docker, for images that are not here or no release's, and where a push fails.
    """
    check()
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.absolute().parent} does not exist")
    here = {step: images.image(step, tag) for step in (*images.STEPS, images.TOOLS)}
    labels = {image: inspect(image)["Config"].get("Labels") for image in here.values()}
    lines = [f"# base: {base.common(labels)}\n"] if release else []
    for step, image in here.items():
        place = images.image(step, tag, registry)
        docker("tag", image, place)
        docker("push", place)
        name = place.rpartition(":")[0]
        # The same image may have been pushed elsewhere before.
        (digest,) = [known for known in inspect(place)["RepoDigests"] if known.startswith(f"{name}@")]
        lines.append(f"{'# ' if step == images.TOOLS else ''}{step}: {digest}\n")
    output.write_text(
        "# Written by `make push-images`: what `make compile PUSHED=…` reads.\n" + "".join(lines), "utf-8"
    )
