"""Step name → image reference. The only place that knows what the images are called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.errors import UserError

#: Version of the released images; a cluster profile replaces references by digests.
VERSION = "0.1.0"
STEPS = ("snapshot", "crop", "train", "evaluate", "select_best", "convert")
#: The command line without what runs or trains: for clean-up inside a cluster.
TOOLS = "tools"
#: What a cluster runs beside the steps, in the image of one of them.
BESIDE = ("notify",)
#: Work that can be taken off a step by tasks of their own, which run in that step's image.
PARTS = {"draw": "evaluate"}

_COMPONENTS = Path(__file__).parent


def image(step: str, tag: str = VERSION, registry: str = "") -> str:
    """The image of `step`, or of `TOOLS`: by its release tag and on this machine, where nothing else is asked for."""
    if step not in (*STEPS, TOOLS):
        raise UserError(f"there is no step {step!r}; the steps are {', '.join(STEPS)}")
    place = f"{registry.rstrip('/')}/" if registry else ""
    return f"{place}defect-diffusion/{step.replace('_', '-')}:{tag}"


def source_reference(step: str) -> str:
    """A reference that carries a digest of the step's sources, for runs without images.

    KFP's local cache keys on the image reference, not on the code: with this one, changed code (the
    step's folder, the shared modules, the locked versions) is never answered from the cache.
    """
    digest = hashlib.sha256()
    lock = _COMPONENTS.parent / "requirements.lock"
    others = {*STEPS, *BESIDE} - {step}
    sources = [
        path
        for path in _COMPONENTS.rglob("*")
        if path.suffix in (".py", ".html")
        and path.relative_to(_COMPONENTS).parts[0] not in others
        and path.name not in ("images.py", "component.py")
    ]
    for path in sorted([*sources, *([lock] if lock.exists() else [])]):
        digest.update(path.relative_to(_COMPONENTS.parent).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{image(step).partition(':')[0]}@sha256:{digest.hexdigest()}"
