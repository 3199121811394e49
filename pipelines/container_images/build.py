"""Building the images from docker/Dockerfile."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from components import images
from components.errors import UserError
from pipelines.container_images.base import build_arguments, require_digest
from pipelines.container_images.program import check, docker, is_here

ROOT = Path(__file__).parent.parent.parent
#: As in the Dockerfile.
BASE = "python:3.11-slim"
#: Where the Dockerfile looks for wheels.
_WHEELS = ROOT / "docker" / "wheels"


def build(
    tag: str,
    base: str,
    torch_index: str | None,
    wheels: Path | None,
    flags: Sequence[str],
    release: bool = False,
    gpu: bool = False,
) -> None:
    """Build every step's image, and that of the tools, under `tag`.

    Args:
        base: base image, by tag or digest.
        torch_index: see the Dockerfile; None leaves it to it, unless the wheels hold torch or the images are for GPUs.
        wheels: a folder of wheels that go before those of the index.
        flags: more flags of ``docker build``.
        release: whether `base` has to be named by digest.
        gpu: whether they get what the extra `gpu` holds, and torch from the usual index, where it is for CUDA.

    Raises:
        UserError: without Docker, for a folder without wheels, for a release whose base is no digest or
            named twice, and where a build fails.
    """
    if release:
        require_digest(base)
        given = {flag.removeprefix("--build-arg=").partition("=")[0] for flag in flags}
        if named := sorted(given & build_arguments(base).keys()):
            raise UserError(f"--build-arg {', '.join(named)}: a release's base is named by --base alone")
    check()
    if not is_here(base):
        # BuildKit would fetch it for itself alone, and there would be nothing to weigh the images against.
        docker("pull", base)
    with _beside_the_dockerfile(wheels) as names:
        if torch_index is None and (gpu or any(name.startswith("torch-") for name in names)):
            torch_index = ""
        arguments = {**build_arguments(base), "VERSION": tag, **_origin(), **({"EXTRAS": "gpu"} if gpu else {})}
        if torch_index is not None:
            arguments["TORCH_INDEX"] = torch_index
        settings = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        for step in (*images.STEPS, images.TOOLS):
            print(f"building {images.image(step, tag)}", flush=True)
            docker(
                "build", "--file", str(ROOT / "docker" / "Dockerfile"), "--target", step,
                "--tag", images.image(step, tag), *settings, *flags, str(ROOT),
            )  # fmt: skip


@contextlib.contextmanager
def _beside_the_dockerfile(wheels: Path | None) -> Iterator[list[str]]:
    """The wheels of a folder where the build sees them, for as long as it takes; their names."""
    if wheels is None:
        yield [path.name for path in _WHEELS.glob("*.whl")]
        return
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise UserError(f"--wheels {wheels}: no wheels there (*.whl)")
    if _WHEELS.exists():
        raise UserError(
            f"--wheels {wheels}: there are wheels in {_WHEELS} already; remove these, or leave --wheels out"
        )
    _WHEELS.mkdir()
    try:
        for path in found:
            try:
                os.link(path, _WHEELS / path.name)
            except OSError:  # another file system
                shutil.copy(path, _WHEELS / path.name)
        yield [path.name for path in found]
    finally:
        shutil.rmtree(_WHEELS)


def _origin() -> dict[str, str]:
    """Where the sources come from, for the labels; nothing outside a git checkout."""
    asked = {"REVISION": ("rev-parse", "HEAD"), "SOURCE": ("remote", "get-url", "origin")}
    found = {}
    for name, question in asked.items():
        with contextlib.suppress(OSError):
            done = subprocess.run(["git", "-C", str(ROOT), *question], capture_output=True, text=True)
            # An address may hold a password.
            if done.returncode == 0 and "@" not in done.stdout:
                found[name] = done.stdout.strip()
    return found
