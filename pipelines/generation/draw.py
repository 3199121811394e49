"""Drawing what is missing of a plan, one file after another, so that a killed command goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from components.errors import UserError
from components.progress import Progress
from pipelines.generation.plan import Picture, Sampling
from pipelines.generation.source import Source

#: Pixels of the images that are denoised at once, on a CPU: larger batches gain nothing there.
_PIXELS = 16 * 64 * 64
#: A network of fewer parameters is slower on several threads than on one.
_SMALL = 50_000_000


def missing(pictures: Sequence[Picture], out: Path) -> list[Picture]:
    """Those of `pictures` whose file is not there. A file is there whole or not at all."""
    return [picture for picture in pictures if not (out / picture.file_name).is_file()]


def batch_size(size: int, device: str) -> int:
    """How many images of `size` pixels a side are denoised at once, where nobody says."""
    return max(1, min(16, _PIXELS // size**2)) if device == "cpu" else 8


def draw(source: Source, pictures: Sequence[Picture], how: Sampling, out: Path, device: str, batch: int | None) -> None:
    """Draw `pictures` into `out`; each PNG carries its prompt and seed.

    Raises:
        UserError: when the model cannot be loaded, draws nothing, or the disk is full; what is drawn stays.
    """
    import torch

    from components import sampling

    model = (
        sampling.load_file(source.file, source.folder, device) if source.file else sampling.load(source.folder, device)
    )
    threads = torch.get_num_threads()
    if device == "cpu" and sum(p.numel() for p in model.unet.parameters()) < _SMALL:
        torch.set_num_threads(1)
    progress = Progress("drawing", len(pictures), "image")
    waiting = list(pictures)
    try:
        for images in sampling.generate(
            model,
            [picture.prompt for picture in pictures],
            [picture.seed for picture in pictures],
            size=how.size,
            steps=how.steps,
            guidance=how.guidance,
            batch_size=batch or batch_size(how.size, device),
        ):
            for image in images:
                _save(Image.fromarray(image), waiting.pop(0), out)
            progress.update(len(pictures) - len(waiting))
    except sampling.NotFiniteError as error:
        raise UserError(f"--model {source.label}: {error}; its training diverged, use an earlier checkpoint") from None
    except OSError as error:
        raise UserError(
            f"--out {out}: {error.strerror or error}; make room and give the same command again, it goes on from "
            f"{len(pictures) - len(waiting)} of {len(pictures)} images"
        ) from None
    finally:
        torch.set_num_threads(threads)


def _save(image: Image.Image, picture: Picture, out: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("prompt", picture.prompt)
    info.add_text("seed", str(picture.seed))
    path = out / picture.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image.save(part, "PNG", pnginfo=info)
    part.replace(path)
