"""Two folders of images from any source, measured as the step measures: to check numbers elsewhere.

    python -m components evaluate --images DIR --reference DIR [--train DIR] [--prompt TEXT] [--output DIR]

No classes, no checkpoints, no store. Images may have any size and are taken from sub-folders, too.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components import artifacts
from components.decoding import DAMAGED
from components.errors import UserError
from components.evaluate import loading, measure
from components.evaluate.config import EvaluateConfig
from components.evaluate.measure import MAIN, ImageSet
from components.evaluate.metrics import clip_scores
from components.evaluate.names import absent
from components.evaluate.networks.inception import Inception
from components.evaluate.networks.transformer import Clip
from components.evaluate.pixels import PixelIndex, grey
from components.evaluate.wording import cell, label
from components.extractor import Extractor, Lite0
from components.nearest import nearest
from components.progress import Progress, log
from components.runtime import InputPath, Result

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_LEAST = 3
_AT_ONCE = 32


def compare(
    config: EvaluateConfig,
    images: InputPath,
    reference: InputPath,
    train: str = "",
    prompt: str = "",
    output: str = "",
) -> Result:
    """Measure a folder of generated images against a folder of real ones, and print every metric.

    With `train`, a folder of the images that the model was trained on, copies of these are looked for; with
    `prompt`, the text that all images were drawn from, and evaluate's `clip` setting there is a CLIP score.
    `output` is a folder that receives ``metrics.json``. Settings of drawing have no effect.

    Raises:
        UserError: for folders with fewer than 3 images, and images that cannot be read.
    """
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    folders = {"images": images, "reference": reference, **({"train": Path(train)} if train else {})}
    listed = {name: _listed(name, folder) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        extractors, networks = loading.load(config, Path(temporary))
        progress = Progress("features", sum(map(len, listed.values())), "image")
        seen, greys, done = {}, {}, 0
        for name, paths in listed.items():
            features, greys[name] = _seen(paths, extractors, progress, done)
            done += len(paths)
            logits = {
                e: made.logits(features[e])
                for e, made in extractors.items()
                if isinstance(made, Lite0) or (isinstance(made, Inception) and made.classifier is not None)
            }
            seen[name] = ImageSet(features, logits=logits)
        clip = extractors.get(Clip.name)
        texts = clip.texts([prompt]) if isinstance(clip, Clip) and prompt else None
    if train:
        index = PixelIndex(greys["train"])
        for name in ("images", "reference"):
            away = nearest(seen[name].features[MAIN], seen["train"].features[MAIN])[0]
            seen[name] = dataclasses.replace(seen[name], nearest=away, pixels=index.nearest(greys[name])[0])
    if texts is not None:
        rows = seen["images"].features[Clip.name]
        seen["images"] = dataclasses.replace(seen["images"], clip=clip_scores(rows, np.broadcast_to(texts, rows.shape)))
    measured = measure.of_folders(seen["images"], seen["reference"], seen.get("train"), config)
    n, m = seen["images"].count, seen["reference"].count
    missing = absent(networks) | measure.too_few(seen["images"], min(n, m), n, m, config)
    log(f"{n} images of {images} against {m} of {reference}; brackets are 95 % intervals")
    width = max(map(len, (label(name) for name in measured)))
    for name, estimate in measured.items():
        print(f"  {label(name):<{width}}  {cell(name, dataclasses.asdict(estimate))}")
    for name, why in missing.items():
        print(f"  {name} is not measured: {why}")
    if output:
        data = {
            "schema": 1,
            "metrics": {name: dataclasses.asdict(estimate) for name, estimate in measured.items()},
            "absent": missing,
            "extractors": [made.record for made in extractors.values()],
        }
        artifacts.write_json(Path(output) / "metrics.json", data)
    return Result()


def _listed(name: str, folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if len(paths) < _LEAST:
        raise UserError(
            f"--{name} {folder}: {len(paths)} images in it, {_LEAST} are needed; give a folder of images "
            f"({', '.join(_SUFFIXES)})"
        )
    return paths


def _seen(
    paths: Sequence[Path], extractors: dict[str, Extractor], progress: Progress, done: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features by extractor, and grey levels, of the images at `paths`; a few images at a time."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in extractors}
    greys = []
    for batch in _batches(paths):
        for name, made in extractors.items():
            rows[name].append(made.features(batch))
        greys.append(grey(batch))
        done += len(batch)
        progress.update(done)
    return {name: np.concatenate(parts) for name, parts in rows.items()}, np.concatenate(greys)


def _batches(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The images in order, those of one size that follow each other together: uint8 ``[n, height, width, 3]``."""
    batch: list[np.ndarray] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except DAMAGED as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it or replace it") from None
        if batch and (len(batch) == _AT_ONCE or batch[0].shape != pixels.shape):
            yield np.stack(batch)
            batch = []
        batch.append(pixels)
    yield np.stack(batch)
