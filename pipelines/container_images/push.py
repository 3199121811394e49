"""Pushing the images to a registry, and writing down under which digests they are there."""

from __future__ import annotations

from pathlib import Path

from components import images
from components.errors import UserError
from pipelines.container_images.program import check, docker, inspect


def push(tag: str, registry: str, output: Path) -> None:
    """Push the images; `output` gets a line ``step: registry/name@sha256:…`` each, once all are there.

    The tools' is a comment: the pipeline has no part of that name.

    Raises:
        UserError: without Docker, for images that are not here, and where a push fails.
    """
    check()
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.absolute().parent} does not exist")
    lines = []
    for step in (*images.STEPS, images.TOOLS):
        place = images.image(step, tag, registry)
        inspect(images.image(step, tag))
        docker("tag", images.image(step, tag), place)
        docker("push", place)
        name = place.rpartition(":")[0]
        # The same image may have been pushed elsewhere before.
        (digest,) = [known for known in inspect(place)["RepoDigests"] if known.startswith(f"{name}@")]
        lines.append(f"{'# ' if step == images.TOOLS else ''}{step}: {digest}\n")
    output.write_text(
        "# Written by `make push-images`: what `make compile PUSHED=…` reads.\n" + "".join(lines), "utf-8"
    )
