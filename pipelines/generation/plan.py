"""What is to be drawn, decided before any weight is read: prompts, seeds, files, and what is there already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from components.artifacts import write_json
from components.documents import parse_json, shown
from components.errors import UserError
from pipelines.generation.source import Source

RECORD = "generate.json"
#: What to do about one of its images that cannot be read.
AGAIN = "remove it and give the same command again"
#: Files of a folder that this command writes, beside images/.
OWN = {RECORD, "metadata.jsonl", "contact-sheet.png", "images"}


@dataclass(frozen=True)
class Picture:
    """One image to draw."""

    label: str  #: class, or a short form of the prompt
    prompt: str
    seed: int

    @property
    def file_name(self) -> str:
        """Relative to the output folder."""
        return f"images/{slug(self.label)}/{slug(self.label)}-{self.seed:06d}.png"


@dataclass(frozen=True)
class Sampling:
    """How an image is made of its prompt and seed."""

    steps: int
    guidance: float
    size: int


def slug(text: str) -> str:
    """A folder name that every file system takes."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:60].strip("-") or "prompt"


def prompts(source: Source, classes: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Label → prompt: the classes asked for (all, where nothing is), then the texts.

    Raises:
        UserError: for a class that the model does not know, or where nothing says what to draw.
    """
    known = source.prompts
    unknown = [name for name in classes if name not in known]
    if unknown and known:
        raise UserError(f"--class {', '.join(unknown)}: the model knows {', '.join(sorted(known))}")
    if not known and (classes or not texts):
        raise UserError(f"--model {source.label}: says nothing of classes; say what to draw with --prompt TEXT")
    chosen = {name: known[name] for name in (classes or ([] if texts else sorted(known)))}
    made = {**chosen, **{text: text for text in texts}}
    taken: dict[str, str] = {}
    for label in made:
        other = taken.setdefault(slug(label), label)
        if other != label:
            raise UserError(
                f"{label!r} and {other!r} would share the folder images/{slug(label)}; ask for one at a time"
            )
    return made


def sampling(source: Source, steps: int | None, guidance: float | None, size: int | None) -> Sampling:
    """The settings given, or those that the model was measured with, or what is customary.

    Raises:
        UserError: for a size that the VAE cannot make, or a header that is damaged.
    """
    measured = {"num_inference_steps": 25, "guidance_scale": 7.5, **source.generation}
    said = measured["num_inference_steps"], measured["guidance_scale"]
    if not all(isinstance(value, int | float) for value in said) or not (1 <= said[0] <= 1000 and 0 <= said[1] <= 100):
        raise UserError(
            f"--model {source.label}: its header says {shown(said[0])} steps with guidance {shown(said[1])}, which is "
            "damaged; fetch the model again"
        )
    side = source.resolution if size is None else size
    if side < source.scale or side % source.scale:
        near = max(source.scale, round(side / source.scale) * source.scale)
        raise UserError(f"--size {side}: must be a multiple of {source.scale}, such as {near}")
    return Sampling(
        steps=int(said[0]) if steps is None else steps,
        guidance=float(said[1]) if guidance is None else guidance,
        size=side,
    )


def pictures(made: dict[str, str], count: int, seed: int) -> list[Picture]:
    """`count` of each prompt; the same seeds for each, one after another from `seed`."""
    return [Picture(label, prompt, seed + i) for label, prompt in made.items() for i in range(count)]


def open_folder(out: Path, identity: dict[str, Any], made: dict[str, str]) -> dict[str, str]:
    """Make `out`, or go on in it; all label → prompt pairs that it holds then.

    Args:
        identity: what makes two images of one prompt and seed the same.

    Raises:
        UserError: for a folder of something else, or of other settings; nothing is touched.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    there = {p.name for p in out.iterdir()} if out.is_dir() else set()
    prompted: dict[str, str] = {}
    if RECORD in there:
        before, prompted = _recorded(out)
        changed = [f"{k} {shown(before.get(k))} → {v}" for k, v in identity.items() if before.get(k) != v]
        changed += [f"the prompt of {k}" for k, v in made.items() if prompted.get(k, v) != v]
        if changed:
            raise UserError(
                f"--out {out}: holds images made otherwise ({'; '.join(changed)}); name another folder, or remove it"
            )
    elif there:
        raise UserError(f"--out {out}: holds other files ({', '.join(sorted(there)[:3])}); name a new or empty folder")
    held = {**prompted, **made}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / RECORD, {"schema": 1, "identity": identity, "prompts": held})
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); name a folder that can") from None
    return held


def _recorded(out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the images in `out` were made with, and label → prompt of all of them."""
    try:
        record = parse_json((out / RECORD).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out}: {RECORD} cannot be read ({error}); name another folder") from None
    identity, prompted = (record.get(key) if isinstance(record, dict) else None for key in ("identity", "prompts"))
    texts = prompted.values() if isinstance(prompted, dict) else [None]
    if not isinstance(identity, dict) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"--out {out}: {RECORD} is not what this command writes; name another folder")
    return identity, cast(dict[str, str], prompted)
