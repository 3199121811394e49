"""The ``generate`` command: order of work, and what it leaves behind. Its flags are in `flags`."""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.progress import duration, log
from pipelines.generation import plan
from pipelines.generation.nearest import Nearness
from pipelines.generation.plan import Picture
from pipelines.generation.source import LARGEST, find

_SHEET_COLUMNS, _SHEET_ROWS = 10, 4  # of a class
_SHEET_SIDE = 96


def generate(flags: argparse.Namespace) -> int:
    """Draw what is asked for and say what was made."""
    _check(flags)
    started = time.monotonic()
    with find(flags.model, flags.workdir, flags.config) as source:
        made = plan.prompts(source, flags.classes, flags.prompts)
        how = plan.sampling(source, flags.steps, flags.guidance, flags.size)
        crops = _crops(flags, source.crops_digest)
        identity = {
            "model": source.digest(),
            "steps": how.steps,
            "guidance": how.guidance,
            "size": how.size,
            "sampler": "DPM-Solver++ (2M)",
        }
        plan.open_folder(flags.out, identity, made)
        wanted = plan.pictures(made, flags.count, flags.seed)
        drawn = _draw(flags, source, wanted, how)
    shown = f"{len(wanted)} images of {_listed(list(made))}"
    if drawn:
        rate = (time.monotonic() - started) / drawn
        log(f"{shown}: drew {drawn} in {duration(time.monotonic() - started)}, {rate:.2f} s an image with loading")
    else:
        log(f"{shown}: all there already")
    everything = _present(flags.out)
    nearness = _nearness(everything, flags.out, crops) if crops else {}
    _write_metadata(everything, flags.out, nearness)
    sheet = flags.out / "contact-sheet.png"
    _sheet(everything, flags.out).save(sheet, optimize=True)
    if nearness:
        log(_told(nearness))
    else:
        log("nearest training crops: not measured, the crops are not at hand (--crops FOLDER)")
    log(f"images   {flags.out / 'images'}")
    log(f"picture  {sheet}")
    return 0


def _check(flags: argparse.Namespace) -> None:
    problems = []
    if flags.count < 1:
        problems.append(f"--count {flags.count}: at least 1 image is needed")
    if not 0 <= flags.seed <= 2**63 - 1 - max(flags.count, 0):
        problems.append(f"--seed {flags.seed}: choose a number from 0 to 2**63 less the count")
    if flags.steps is not None and not 1 <= flags.steps <= 1000:
        problems.append(f"--steps {flags.steps}: choose 1 to 1000")
    if flags.guidance is not None and not 0 <= flags.guidance <= 100:
        problems.append(f"--guidance {flags.guidance}: choose 0 to 100; 3 to 8 is usual")
    if flags.size is not None and flags.size > LARGEST:
        problems.append(f"--size {flags.size}: at most {LARGEST} pixels")
    if flags.batch_size is not None and flags.batch_size < 1:
        problems.append(f"--batch-size {flags.batch_size}: at least 1")
    problems += [f"--prompt {text!r}: an empty prompt" for text in flags.prompts if not text.strip()]
    if problems:
        raise UserError(*problems)


def _crops(flags: argparse.Namespace, digest: str | None) -> Path | None:
    from pipelines.generation import nearest

    if flags.crops is None:
        return nearest.crops_of(digest, flags.workdir)
    nearest.check(flags.crops)
    return Path(flags.crops)


def _draw(flags: argparse.Namespace, source: Any, wanted: Sequence[Picture], how: plan.Sampling) -> int:
    from pipelines.generation import draw

    todo = draw.missing(wanted, flags.out)
    if not todo:
        return 0
    if len(todo) < len(wanted):
        log(f"{len(wanted) - len(todo)} of {len(wanted)} images are there already")
    import torch

    device = flags.device if flags.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no GPU is seen here; use --device cpu")
    draw.draw(source, todo, how, flags.out, device, flags.batch_size)
    return len(todo)


def _present(out: Path) -> list[Picture]:
    """Every image of the folder, those of earlier commands too; by label, then by seed."""
    held = json.loads((out / plan.RECORD).read_text(encoding="utf-8"))["prompts"]
    found = []
    for label, prompt in held.items():
        for path in sorted((out / "images" / plan.slug(label)).glob("*.png")):
            seed = path.stem.removeprefix(f"{plan.slug(label)}-")
            # Others may have put files of their own there.
            if re.fullmatch(r"\d{6,19}", seed, re.ASCII):
                found.append(Picture(label, prompt, int(seed)))
    return found


def _nearness(pictures: Sequence[Picture], out: Path, crops: Path) -> dict[str, Nearness]:
    from pipelines.generation import nearest

    return nearest.measure(pictures, out, crops)


def _write_metadata(pictures: Sequence[Picture], out: Path, nearness: Mapping[str, Nearness]) -> None:
    """One line an image, as Hugging Face datasets' imagefolder reads it."""
    lines = []
    for picture in pictures:
        line: dict[str, Any] = {
            "file_name": picture.file_name, "text": picture.prompt, "defect": picture.label, "seed": picture.seed
        }  # fmt: skip
        near = nearness.get(picture.file_name)
        if near is not None:
            line |= {
                "nearest_crop": near.crop,
                "nearest_distance": round(near.distance, 5),
                "nearer_than_real": near.nearer_than_real,
            }
        lines.append(json.dumps(line, ensure_ascii=False))
    part = out / "metadata.jsonl.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(out / "metadata.jsonl")
    record = json.loads((out / plan.RECORD).read_text(encoding="utf-8"))
    record["made_by"] = {"python": platform.python_version(), "images": len(pictures)}
    plan.write_json(out / plan.RECORD, record)


def _sheet(pictures: Sequence[Picture], out: Path) -> Any:
    """The first images of each label, under its name."""
    from PIL import Image, ImageDraw, ImageFont

    from components.decoding import required
    from components.report import contact_sheet

    blocks: list[tuple[str, Image.Image]] = []
    for label in dict.fromkeys(picture.label for picture in pictures):
        mine = [picture for picture in pictures if picture.label == label][: _SHEET_COLUMNS * _SHEET_ROWS]
        images = [required(out / picture.file_name, "RGB", plan.AGAIN) for picture in mine]
        blocks.append((f"{label}: “{mine[0].prompt}”", contact_sheet(images, _SHEET_COLUMNS, _SHEET_SIDE)))
    title = 26
    sheet = Image.new("RGB", (blocks[0][1].width, sum(block.height + title for _, block in blocks)), "white")
    pen, font, y = ImageDraw.Draw(sheet), ImageFont.load_default(16), 0
    for text, block in blocks:
        pen.text((4, y + title / 2), text, "black", font, anchor="lm")
        sheet.paste(block, (0, y + title))
        y += block.height + title
    return sheet


def _told(nearness: Mapping[str, Nearness]) -> str:
    close = sorted((near.distance, name, near.crop) for name, near in nearness.items() if near.nearer_than_real)
    told = (
        f"nearest training crops: {len(close)} of {len(nearness)} images are nearer to one than 99 % of the held-out "
        "real crops are"
    )
    return "\n".join([told, *(f"    {name}  {distance:.3f}  {crop}" for distance, name, crop in close[:5])])


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
