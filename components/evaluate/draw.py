"""One checkpoint's images: drawn, turned into features, a few of them kept.

Each batch, once drawn, is kept in the store with its features until the evaluation is finished, so that
one which was interrupted goes on after the last batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components import sampling
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.measure import ImageSet
from components.evaluate.pictures import reduced
from components.evaluate.pixels import grey
from components.evaluate.real import Copy, Real

#: Images of a class that the report shows in a row.
SHOWN = 8
#: Pairs of a generated image and its nearest training crop that are kept.
PAIRS = 6
_IMAGES = "images"


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


def seeds(seed: int, name: str, count: int) -> list[int]:
    """The seeds of a class's images: the same for every checkpoint, whatever the other classes.

    Below 2**32, so that other programs take them too.
    """
    return [int.from_bytes(hashlib.sha256(f"{seed}/{name}/{i}".encode()).digest()[:4], "big") for i in range(count)]


def draw(
    model: Callable[[], sampling.Model],
    prompts: Mapping[str, str],
    config: EvaluateConfig,
    real: Real,
    folders: Mapping[str, Path],
    kept: Arrays,
    seen: Callable[[int], None],
) -> Drawn:
    """Draw `config.images_per_class` images of each class.

    Args:
        model: loads the checkpoint; called where there is something left to draw.
        prompts: class → prompt.
        folders: class → folder that gets the images kept, as PNG with prompt and seed.
        kept: the checkpoint's finished batches.
        seen: called with the number of images after each batch.

    Raises:
        sampling.NotFiniteError: when the checkpoint draws nothing.
    """
    drawn = Drawn({}, [], {}, [], [])
    for name, prompt in prompts.items():
        chosen = seeds(config.seed, name, config.images_per_class)
        sets, first, done = [], [], 0
        for images, features in _batches(model, prompt, chosen, config, real, kept.at(folders[name].name)):
            _save(images[: max(0, config.images_kept - done)], folders[name], prompt, chosen[done:], done)
            found, by_features, by_pixels = real.seen(features, grey(images), name)
            sets.append(found)
            _add(drawn.pairs, found.nearest, images, by_features, name)
            _add(drawn.pixel_pairs, found.pixels, images, by_pixels, name)
            for i, (near, alike) in enumerate(zip(by_features, by_pixels)):
                drawn.rows.append(
                    ImageRow(
                        defect=name,
                        seed=chosen[done + i],
                        nearest_train=float(found.nearest[i]),
                        nearest_crop=real.crop_name(near),
                        pixel_distance=float(found.pixels[i]),
                        pixel_crop=real.crop_name(alike),
                        clip_score=None if found.clip is None else float(found.clip[i]),
                    )
                )
            first.append(reduced(images[: max(0, SHOWN - done)]))
            done += len(images)
            seen(len(images))
        drawn.images[name] = _joined(sets)
        drawn.shown[name] = np.concatenate(first)
    return drawn


def _batches(
    model: Callable[[], sampling.Model],
    prompt: str,
    chosen: Sequence[int],
    config: EvaluateConfig,
    real: Real,
    kept: Arrays,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Images and features of each batch: those that are kept, then newly drawn ones."""
    done = 0
    while done < len(chosen) and (found := kept.get(f"{done:05d}")) is not None:
        images = found.pop(_IMAGES)
        yield images, {name: rows.astype(np.float64) for name, rows in found.items()}
        done += len(images)
    if done == len(chosen):
        return
    rest = chosen[done:]
    for images in sampling.generate(
        model(),
        [prompt] * len(rest),
        rest,
        size=real.crops.resolution,
        steps=config.num_inference_steps,
        guidance=config.guidance_scale,
        batch_size=config.batch_size,
    ):
        features = {name: extractor.features(images) for name, extractor in real.extractors.items()}
        # The networks compute in 32 bits: nothing is lost.
        kept.put(f"{done:05d}", {_IMAGES: images, **{n: rows.astype(np.float32) for n, rows in features.items()}})
        yield images, features
        done += len(images)


def _add(pairs: list[Pair], distances: np.ndarray, images: np.ndarray, copies: Sequence[Copy], name: str) -> None:
    """Keep the `PAIRS` nearest of `pairs` and of new images."""
    for i in np.argsort(distances, kind="stable")[:PAIRS]:
        pairs.append(Pair(float(distances[i]), reduced(images[i : i + 1])[0], copies[i], name))
    pairs.sort(key=lambda pair: pair.distance)
    del pairs[PAIRS:]


def _joined(sets: Sequence[ImageSet]) -> ImageSet:
    def joined(part: Callable[[ImageSet], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([part(s)[name] for s in sets]) for name in part(sets[0])}

    clips = [s.clip for s in sets if s.clip is not None]
    return ImageSet(
        joined(lambda s: s.features),
        np.concatenate([s.nearest for s in sets]),
        np.concatenate([s.pixels for s in sets]),
        joined(lambda s: s.logits),
        np.concatenate(clips) if clips else None,
    )


def _save(images: np.ndarray, folder: Path, prompt: str, chosen: Sequence[int], first: int) -> None:
    for i, image in enumerate(images):
        folder.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_itxt("prompt", prompt)
        info.add_text("seed", str(chosen[i]))
        Image.fromarray(image).save(folder / f"{first + i:04d}.png", pnginfo=info)
