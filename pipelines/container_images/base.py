"""The base image of the steps': whether it is named by digest, and the labels that say which one an image has.

A tag is another image whenever its owner moves it, a digest is one image for good. Not covered: what a build puts on
the base (Debian's git, the packages of requirements.lock).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.errors import UserError

#: Of https://github.com/opencontainers/image-spec/blob/main/annotations.md; the Dockerfile sets them.
NAME_LABEL = "org.opencontainers.image.base.name"
DIGEST_LABEL = "org.opencontainers.image.base.digest"


def parts(base: str) -> tuple[str, str]:
    """Name and digest of a base; the digest is empty where only a tag is named."""
    name, _, digest = base.partition("@")
    return (name, digest) if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else (base, "")


def require_digest(base: str) -> None:
    """Hold a release's base to a digest.

    Raises:
        UserError: when it is named by a tag alone.
    """
    name, digest = parts(base)
    if not digest:
        name = name.partition("@")[0]
        raise UserError(
            f"--base {base}: names no digest, and a tag may be another image tomorrow; a release is built from "
            f"{name}@sha256:<64 hexadecimal digits>, which `docker buildx imagetools inspect {name}` shows"
        )


def build_arguments(base: str) -> dict[str, str]:
    """What the Dockerfile is told of the base."""
    name, digest = parts(base)
    return {"BASE": base, "BASE_NAME": name, "BASE_DIGEST": digest}


def common(labels: Mapping[str, Mapping[str, str] | None]) -> str:
    """The base of all images, ``name@digest``, by their labels (image → labels).

    Raises:
        UserError: for images that were built from a tag, or not all from one base.
    """
    found = {
        image: f"{known.get(NAME_LABEL, '')}@{known.get(DIGEST_LABEL, '')}"
        for image, known in ((image, given or {}) for image, given in labels.items())
    }
    remedy = "build all of them from one: make images RELEASE=1 BASE_IMAGE=name@sha256:…"
    unknown = [image for image, base in found.items() if not parts(base)[1]]
    if unknown:
        raise UserError(f"{', '.join(unknown)}: not built from a base that is named by digest; {remedy}")
    if len(set(found.values())) > 1:
        raise UserError(*(f"{image}: built from {base}, others are not; {remedy}" for image, base in found.items()))
    return next(iter(found.values()))
