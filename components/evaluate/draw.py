"""One checkpoint's images: drawn, turned into features, a few of them kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components import sampling
from components.evaluate.config import EvaluateConfig
from components.extractor import Lite0
from components.nearest import nearest

#: Images of a class that the report shows in a row.
SHOWN = 8
#: Pairs of a generated image and its nearest training crop that are kept.
PAIRS = 6


@dataclass(frozen=True)
class Pair:
    """A generated image and the training view nearest to it."""

    distance: float  #: cosine distance of their features
    image: np.ndarray  #: uint8 ``[side, side, 3]``
    view: int  #: row of `RealFeatures.views`
    defect: str  #: class that the image was asked for


@dataclass(frozen=True)
class Drawn:
    """What is needed of a checkpoint's images once they have been drawn, by class."""

    features: dict[str, np.ndarray]  #: float64 ``[n, d]``
    distances: dict[str, np.ndarray]  #: to the nearest training view, float64 ``[n]``
    shown: dict[str, np.ndarray]  #: the first `SHOWN` images, uint8 ``[≤ SHOWN, side, side, 3]``
    pairs: list[Pair]  #: the nearest to a training view, nearest first


def seeds(seed: int, name: str, count: int) -> list[int]:
    """The seeds of a class's images: the same for every checkpoint, whatever the other classes.

    Below 2**32, so that other programs take them too.
    """
    return [int.from_bytes(hashlib.sha256(f"{seed}/{name}/{i}".encode()).digest()[:4], "big") for i in range(count)]


def draw(
    model: sampling.Model,
    prompts: Mapping[str, str],
    config: EvaluateConfig,
    size: int,
    extractor: Lite0,
    views: np.ndarray,
    folders: Mapping[str, Path],
    seen: Callable[[int], None],
) -> Drawn:
    """Draw `config.images_per_class` images of each class.

    Args:
        prompts: class → prompt.
        size: side of the images in pixels.
        views: features of the training views, float64 ``[v, d]``.
        folders: class → folder that gets the images kept, as PNG with prompt and seed.
        seen: called with the number of images after each batch.

    Raises:
        sampling.NotFiniteError: when the checkpoint draws nothing.
    """
    features: dict[str, np.ndarray] = {}
    distances: dict[str, np.ndarray] = {}
    shown: dict[str, np.ndarray] = {}
    pairs: list[Pair] = []
    for name, prompt in prompts.items():
        chosen = seeds(config.seed, name, config.images_per_class)
        rows, away, first = [], [], []
        done = 0
        for images in sampling.generate(
            model,
            [prompt] * len(chosen),
            chosen,
            size=size,
            steps=config.num_inference_steps,
            guidance=config.guidance_scale,
            batch_size=config.batch_size,
        ):
            _save(images[: max(0, config.images_kept - done)], folders[name], prompt, chosen[done:], done)
            rows.append(extractor.features(images))
            distance, view = nearest(rows[-1], views)
            away.append(distance)
            pairs += [Pair(float(d), image, int(v), name) for d, image, v in zip(distance, images, view)]
            pairs = sorted(pairs, key=lambda pair: pair.distance)[:PAIRS]
            first.append(images[: max(0, SHOWN - done)])
            done += len(images)
            seen(len(images))
        features[name], distances[name] = np.concatenate(rows), np.concatenate(away)
        shown[name] = np.concatenate(first)
    return Drawn(features, distances, shown, pairs)


def _save(images: np.ndarray, folder: Path, prompt: str, chosen: list[int], first: int) -> None:
    for i, image in enumerate(images):
        folder.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_itxt("prompt", prompt)
        info.add_text("seed", str(chosen[i]))
        Image.fromarray(image).save(folder / f"{first + i:04d}.png", pnginfo=info)
