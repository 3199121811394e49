"""The real crops and what the networks see in them, computed once and shared by all checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from components.artifacts import SPLITS, Split
from components.evaluate.arrays import Arrays
from components.evaluate.crops import READ_AT_ONCE, RealCrops, batches, digests, read
from components.evaluate.loading import classifiers
from components.evaluate.measure import MAIN, ImageSet, RealFeatures
from components.evaluate.metrics import clip_scores
from components.evaluate.networks.transformer import Clip
from components.evaluate.pixels import PixelIndex, grey, oriented
from components.extractor import Extractor
from components.nearest import nearest
from components.progress import Progress
from components.storage import digest_of, sha256_file


@dataclass(frozen=True)
class Copy:
    """The training crop nearest to an image."""

    crop: int  #: number of the training crop, all classes in order
    orientation: int  #: in which it is nearest, as `pixels.oriented` counts them


class Real:
    """Real crops, the networks, and what these see in those.

    Mirror images need no features of their own: the network hardly tells them apart (cosine distance 0.02
    to 0.03 on board defects, where real crops are 0.1 to 0.2 apart), unlike quarter turns (0.1 to 0.3).

    Args:
        prompts: class → prompt, for the CLIP score.
        augment: the setting of that name that training had; training crops are looked at in quarter turns
            where it turned them.
        kept: where features are kept.
        workers, threads: threads that look at crops, and torch's threads of each.
    """

    def __init__(
        self,
        crops: RealCrops,
        extractors: Mapping[str, Extractor],
        missing: Mapping[str, str],
        prompts: Mapping[str, str],
        augment: str | None,
        kept: Arrays,
        workers: int = 1,
        threads: int = 1,
    ) -> None:
        self.crops, self.extractors, self.missing = crops, extractors, missing
        clip = extractors.get(Clip.name)
        #: class → embedding of its prompt, where there is a CLIP.
        self._texts = (
            dict(zip(crops.classes, clip.texts([prompts[name] for name in crops.classes])))
            if isinstance(clip, Clip)
            else {}
        )
        turns = 4 if augment == "dihedral" else 1
        self._train = _listed(crops, "train")
        self._names = [path.relative_to(crops.folder).as_posix() for path in self._train]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            reader = _Features(crops, kept, pool, (turns + len(extractors) - 1) * len(self._train), len(extractors))
            views = [reader.of(extractors[MAIN], "train", turn) for turn in range(turns)]
            rows: dict[Split, dict[str, np.ndarray]] = {
                "train": {
                    name: views[0] if name == MAIN else reader.of(made, "train") for name, made in extractors.items()
                },
                "reference": {name: reader.of(made, "reference") for name, made in extractors.items()},
            }
        self._views = np.concatenate(views)
        self._pixels = PixelIndex(_grey(self._train, crops.resolution))
        parts = {
            split: {e: _by_class(found, split, crops) for e, found in of_split.items()}
            for split, of_split in rows.items()
        }
        reference, train = {}, {}
        for name in crops.classes:
            held_out, _, _ = self.seen(
                {e: parts["reference"][e][name] for e in extractors},
                _grey(crops.paths["reference"][name], crops.resolution),
                name,
            )
            reference[name] = held_out
            features = {e: parts["train"][e][name] for e in extractors}
            train[name] = ImageSet(features)
        self.features = RealFeatures(train, reference, self._views, classifiers(extractors))

    def seen(
        self, features: Mapping[str, np.ndarray], greys: np.ndarray, name: str
    ) -> tuple[ImageSet, list[Copy], list[Copy]]:
        """Images asked for as class `name`: their measures, and the training crops nearest by features and by pixels.

        Args:
            features: extractor → float64 ``[n, d]``.
            greys: the images as `pixels.grey` gives them, float32 ``[n, 32, 32]``.
        """
        away, view = nearest(features[MAIN], self._views)
        by_pixels, crop, orientation = self._pixels.nearest(greys)
        clip = None
        if self._texts:
            rows = features[Clip.name]
            clip = clip_scores(rows, np.broadcast_to(self._texts[name], rows.shape))
        by_features = [Copy(int(v) % len(self._train), int(v) // len(self._train)) for v in view]
        copies = [Copy(int(c), int(o)) for c, o in zip(crop, orientation)]
        return ImageSet(features, away, by_pixels, clip), by_features, copies

    def picture(self, copy: Copy) -> np.ndarray:
        """The training crop as it is nearest, uint8 ``[side, side, 3]``."""
        return oriented(read([self._train[copy.crop]], self.crops.resolution)[0], copy.orientation)

    def crop_name(self, copy: Copy) -> str:
        """The training crop's path below the crops' folder."""
        return self._names[copy.crop]


class _Features:
    """Features of all crops of a split, read from the store where the same have been computed before."""

    def __init__(
        self, crops: RealCrops, kept: Arrays, pool: ThreadPoolExecutor, of_train: int, of_reference: int
    ) -> None:
        self._crops, self._kept, self._pool, self._done = crops, kept, pool, 0
        self._digests = {split: digests(_listed(crops, split)) for split in SPLITS}
        total = of_train + of_reference * len(_listed(crops, "reference"))
        self._progress = Progress("features of real crops", total, "image")

    def of(self, extractor: Extractor, split: Split, turn: int = 0) -> np.ndarray:
        """Crops in the order of `_listed`, turned by `turn` quarters: float64 ``[n, d]``."""
        paths = _listed(self._crops, split)
        key = f"{extractor.name}/{features_key(extractor, self._digests[split], turn)}"
        found = self._kept.get(key)
        if found is not None:
            self._count(len(paths))
            return found["features"].astype(np.float64)

        def of_some(some: Sequence[Path]) -> np.ndarray:
            return extractor.features(np.rot90(read(some, self._crops.resolution), turn, (1, 2)))

        parts = []
        for part in self._pool.map(
            of_some, [paths[start : start + READ_AT_ONCE] for start in range(0, len(paths), READ_AT_ONCE)]
        ):
            parts.append(part)
            self._count(len(part))
        rows = np.concatenate(parts)
        # The network computes in 32 bits: nothing is lost.
        self._kept.put(key, {"features": rows.astype(np.float32)})
        return rows

    def _count(self, count: int) -> None:
        self._done += count
        self._progress.update(self._done)


def features_key(extractor: Extractor, images: Sequence[str], turn: int) -> str:
    """Digest of what features depend on: the images' digests, weights, resizer, the code, torch's version."""
    return digest_of([list(images), turn, extractor.record, _made_by(), torch.__version__, _device(extractor)])


@functools.cache
def _made_by() -> list[str]:
    """Digests of the code that makes features."""
    code = [Path(__file__).parent.parent / "extractor.py", *sorted((Path(__file__).parent / "networks").glob("*.py"))]
    return [sha256_file(path) for path in code]


def _device(extractor: Extractor) -> str:
    return str(getattr(extractor, "device", "cpu"))


def _grey(paths: Sequence[Path], side: int) -> np.ndarray:
    return np.concatenate([grey(images) for images in batches(paths, side)])


def _listed(crops: RealCrops, split: Split) -> list[Path]:
    return [path for name in crops.classes for path in crops.paths[split][name]]


def _by_class(rows: np.ndarray, split: Split, crops: RealCrops) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(crops.paths[split][name]) for name in crops.classes])[:-1]
    return dict(zip(crops.classes, np.split(rows, ends)))
