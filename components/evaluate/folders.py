"""Two folders of images from any source, measured as the step measures: to check numbers elsewhere.

    python -m components evaluate --images DIR --reference DIR [--train DIR] [--prompt TEXT] [--output DIR]

No classes, no checkpoints, no store. Images may have any size and are taken from sub-folders, too.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from components import artifacts
from components.decoding import required
from components.errors import UserError
from components.evaluate import loading, measure
from components.evaluate.config import EvaluateConfig
from components.evaluate.feature_file import FeatureFile
from components.evaluate.measure import MAIN, ImageSet
from components.evaluate.metrics import clip_scores
from components.evaluate.names import absent
from components.evaluate.networks.transformer import Clip
from components.evaluate.pixels import PixelIndex, grey
from components.evaluate.wording import cell, label
from components.extractor import Extractor
from components.nearest import nearest
from components.parallel import cores
from components.progress import Progress, log
from components.runtime import InputPath, Result

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_LEAST = 3
_AT_ONCE = 32
_BYTES_AT_ONCE = 256 << 20


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
    torch.set_num_threads(config.num_threads or cores())
    folders = {"images": images, "reference": reference, **({"train": Path(train)} if train else {})}
    listed = {name: _listed(name, folder) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        extractors, networks = loading.load(config, Path(temporary) / "networks")
        progress = Progress("features", sum(map(len, listed.values())), "image")
        clip = extractors.get(Clip.name)
        text = clip.texts([prompt]) if isinstance(clip, Clip) and prompt else None
        looker = _Looker(extractors, Path(temporary), progress)
        trained = looker.trained(listed["train"]) if train else None
        real, generated = looker.seen("reference", listed["reference"]), looker.seen("images", listed["images"], text)
        classifiers = loading.classifiers(extractors)
        measured = measure.of_folders(generated, real, trained, classifiers, config)
    n, m = generated.count, real.count
    missing = absent(networks) | measure.too_few(generated, classifiers, min(n, m), n, m, config)
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


class _Looker:
    """Looks at folders of images, a few at a time, and keeps their features on disk.

    Args:
        folder: for the features.
    """

    def __init__(self, extractors: Mapping[str, Extractor], folder: Path, progress: Progress) -> None:
        self._extractors, self._folder, self._progress, self._done = extractors, folder, progress, 0
        #: Of what copies are looked for: features of `MAIN`, float64 ``[k, d]``, and pixels.
        self._train: tuple[np.ndarray, PixelIndex] | None = None

    def trained(self, paths: Sequence[Path]) -> ImageSet:
        """The images at `paths`, which copies are looked for of from now on."""
        files = self._files("train")
        greys = [grey(batch) for batch, _ in self._looked(files, paths)]
        self._train = files[MAIN][:], PixelIndex(np.concatenate(greys))
        return ImageSet(files, np.empty(0), np.empty(0), None)

    def seen(self, name: str, paths: Sequence[Path], text: np.ndarray | None = None) -> ImageSet:
        """The images at `paths`; `text` is the embedding ``[1, d]`` of what all of them were drawn from."""
        files = self._files(name)
        away, by_pixels, clips = [np.empty(0)], [np.empty(0)], []
        for batch, features in self._looked(files, paths):
            if self._train is not None:
                away.append(nearest(features[MAIN], self._train[0])[0])
                by_pixels.append(self._train[1].nearest(grey(batch))[0])
            if text is not None:
                rows = features[Clip.name]
                clips.append(clip_scores(rows, np.broadcast_to(text, rows.shape)))
        scores = np.concatenate(clips) if clips else None
        return ImageSet(files, np.concatenate(away), np.concatenate(by_pixels), scores)

    def _files(self, name: str) -> dict[str, FeatureFile]:
        place = self._folder / "features" / name
        place.mkdir(parents=True)
        return {e: FeatureFile(place / e, made.width) for e, made in self._extractors.items()}

    def _looked(
        self, files: Mapping[str, FeatureFile], paths: Sequence[Path]
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """The images at `paths` in batches, each with its features, which are added to `files` before."""
        for batch in _batches(paths):
            features = {e: made.features(batch) for e, made in self._extractors.items()}
            for e, file in files.items():
                file.append(features[e])
            yield batch, features
            self._done += len(batch)
            self._progress.update(self._done)


def _batches(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The images in order, those of one size that follow each other together: uint8 ``[n, height, width, 3]``."""
    batch: list[np.ndarray] = []
    for path in paths:
        pixels = np.asarray(required(path, "RGB", "remove it or replace it"))
        full = len(batch) == _AT_ONCE or (len(batch) + 1) * pixels.nbytes > _BYTES_AT_ONCE
        if batch and (full or batch[0].shape != pixels.shape):
            yield np.stack(batch)
            batch = []
        batch.append(pixels)
    yield np.stack(batch)
