"""One model's images: drawn, held against the real crops, a few of them kept; features go to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components import sampling
from components.evaluate.drawing import Batch, Drawing
from components.evaluate.feature_file import FeatureFile
from components.evaluate.measure import ImageSet
from components.evaluate.pictures import reduced
from components.evaluate.pixels import grey
from components.evaluate.real import Copy, Real

#: Images of a class that the report shows in a row.
SHOWN = 8
#: Pairs of a generated image and its nearest training crop that are kept.
PAIRS = 6


@dataclass(frozen=True)
class Pair:
    """A generated image and the training crop nearest to it."""

    distance: float
    image: np.ndarray  #: as `pictures.reduced` leaves it, uint8 ``[side, side, 3]``
    copy: Copy
    defect: str  #: class that the image was asked for


@dataclass(frozen=True)
class ImageRow:
    """What is known of a single image: a line of ``images.tsv``."""

    defect: str
    seed: int
    nearest_train: float
    nearest_crop: str  #: below the crops' folder
    pixel_distance: float
    pixel_crop: str
    clip_score: float | None


@dataclass(frozen=True)
class Drawn:
    """What is needed of a checkpoint's images once they have been drawn, by class."""

    images: dict[str, ImageSet]
    rows: list[ImageRow]
    shown: dict[str, np.ndarray]  #: the first `SHOWN` images, reduced, uint8 ``[≤ SHOWN, side, side, 3]``
    pairs: list[Pair]  #: nearest by features (cosine distance), nearest first
    pixel_pairs: list[Pair]  #: nearest by pixels (grey levels), nearest first


def draw(
    drawing: Drawing,
    model: Callable[[], sampling.Model],
    model_name: str,
    real: Real,
    kept_images: Path,
    features: Path,
    seen: Callable[[int], None],
) -> Drawn:
    """Draw the images of one model and look at each of them once.

    Args:
        model, model_name: as `Drawing.batches` takes them.
        kept_images: folder that gets the images kept, class by class, as PNG with prompt and seed.
        features: folder that gets the features, which the result refers to.
        seen: called with the number of images after each batch.

    Raises:
        sampling.NotFiniteError: when the model draws nothing.
    """
    drawn = Drawn({}, [], {}, [], [])
    for name, prompt in drawing.prompts.items():
        place = features / drawing.folders[name]
        place.mkdir(parents=True)
        files = {e: FeatureFile(place / e, extractor.width) for e, extractor in drawing.extractors.items()}
        sets, first = [], []
        for batch in drawing.batches(model, model_name, name):
            _save(batch, kept_images / drawing.folders[name], prompt, drawing.config.images_kept)
            found, by_features, by_pixels = real.seen(batch.features, grey(batch.images), name)
            for extractor, file in files.items():
                file.append(batch.features[extractor])
            # Its features are on disk: from here on only what is one number an image is in memory.
            sets.append(ImageSet({}, found.nearest, found.pixels, found.clip))
            _add(drawn.pairs, found.nearest, batch.images, by_features, name)
            _add(drawn.pixel_pairs, found.pixels, batch.images, by_pixels, name)
            drawn.rows.extend(_rows(batch, found, by_features, by_pixels, name, real))
            first.append(reduced(batch.images[: max(0, SHOWN - batch.first)]))
            seen(len(batch.images))
        clips = [s.clip for s in sets if s.clip is not None]
        drawn.images[name] = ImageSet(
            files,
            np.concatenate([s.nearest for s in sets]),
            np.concatenate([s.pixels for s in sets]),
            np.concatenate(clips) if clips else None,
        )
        drawn.shown[name] = np.concatenate(first)
    return drawn


def _rows(
    batch: Batch, found: ImageSet, by_features: Sequence[Copy], by_pixels: Sequence[Copy], name: str, real: Real
) -> list[ImageRow]:
    return [
        ImageRow(
            defect=name,
            seed=seed,
            nearest_train=float(found.nearest[i]),
            nearest_crop=real.crop_name(by_features[i]),
            pixel_distance=float(found.pixels[i]),
            pixel_crop=real.crop_name(by_pixels[i]),
            clip_score=None if found.clip is None else float(found.clip[i]),
        )
        for i, seed in enumerate(batch.seeds)
    ]


def _add(pairs: list[Pair], distances: np.ndarray, images: np.ndarray, copies: Sequence[Copy], name: str) -> None:
    """Keep the `PAIRS` nearest of `pairs` and of new images."""
    for i in np.argsort(distances, kind="stable")[:PAIRS]:
        pairs.append(Pair(float(distances[i]), reduced(images[i : i + 1])[0], copies[i], name))
    pairs.sort(key=lambda pair: pair.distance)
    del pairs[PAIRS:]


def _save(batch: Batch, folder: Path, prompt: str, count: int) -> None:
    """Those of the batch that are among the first `count` of their class, as PNG."""
    for number, (seed, image) in enumerate(zip(batch.seeds, batch.images), batch.first):
        if number >= count:
            return
        folder.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_itxt("prompt", prompt)
        info.add_text("seed", str(seed))
        Image.fromarray(image).save(folder / f"{number:04d}.png", pnginfo=info)
