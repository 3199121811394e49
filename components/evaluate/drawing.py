"""How models draw for an evaluation: each the same number of images a class, from the same prompts and noise.

Each batch, once drawn, is kept in the store with its features until the evaluation is finished: one that was
interrupted goes on after the last batch, and what several pods drew is found by the one that measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from components import images, sampling
from components.artifacts import CheckpointIndex
from components.evaluate.arrays import Arrays
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import RealCrops, folder_names
from components.extractor import Extractor
from components.storage import Store, digest_of

_IMAGES = "images"


@dataclass(frozen=True)
class Batch:
    """Some images of a class, in the order of their numbers."""

    first: int  #: number of the first image in its class
    seeds: list[int]
    images: np.ndarray  #: uint8 ``[n, side, side, 3]``
    features: Mapping[str, np.ndarray]  #: extractor → float64 ``[n, d]``


class Drawing:
    """Draws, or finds what was drawn before; threads may share it.

    Args:
        store: that holds the run.
        threads: of torch, in whatever thread draws; they move the last digits.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        index: CheckpointIndex,
        crops: RealCrops,
        extractors: Mapping[str, Extractor],
        store: Store,
        threads: int,
    ) -> None:
        self.config, self.extractors = config, extractors
        self.prompts = {name: index.prompts[name] for name in crops.classes}
        self.folders = folder_names(crops.classes)  #: class → name of its folders
        self._side = crops.resolution
        # All that a batch of images and its features depend on.
        made_by = [
            images.source_reference("evaluate"), torch.__version__, torch.cuda.is_available(), threads,
            config.num_inference_steps, config.guidance_scale, config.batch_size, config.images_per_class, config.seed,
            crops.resolution, index.prompts, index.base_revision, [made.record for made in extractors.values()],
        ]  # fmt: skip
        #: The batches drawn so far, of this run and this way of drawing.
        self.kept = Arrays(store.at("train", index.fingerprint, "evaluating", digest_of(made_by)[:16]))

    @property
    def images_each(self) -> int:
        """Images that one model draws."""
        return len(self.prompts) * self.config.images_per_class

    def batches(self, model: Callable[[], sampling.Model], model_name: str, defect: str) -> Iterator[Batch]:
        """The images of class `defect`: those that are kept, then newly drawn ones.

        Args:
            model: loads the model; called where there is something left to draw.
            model_name: tells the models of the run apart.

        Raises:
            sampling.NotFiniteError: when the model draws nothing.
        """
        kept = self.kept.at(model_name, self.folders[defect])
        chosen, done = seeds(self.config.seed, defect, self.config.images_per_class), 0
        while done < len(chosen) and (found := kept.get(f"{done:05d}")) is not None:
            drawn = found.pop(_IMAGES)
            features = {name: rows.astype(np.float64) for name, rows in found.items()}
            yield Batch(done, chosen[done : done + len(drawn)], drawn, features)
            done += len(drawn)
        if done == len(chosen):
            return
        rest = chosen[done:]
        for drawn in sampling.generate(
            model(),
            [self.prompts[defect]] * len(rest),
            rest,
            size=self._side,
            steps=self.config.num_inference_steps,
            guidance=self.config.guidance_scale,
            batch_size=self.config.batch_size,
        ):
            features = {name: extractor.features(drawn) for name, extractor in self.extractors.items()}
            # The networks compute in 32 bits: nothing is lost.
            stored = {name: rows.astype(np.float32) for name, rows in features.items()}
            kept.put(f"{done:05d}", {_IMAGES: drawn, **stored})
            yield Batch(done, chosen[done : done + len(drawn)], drawn, features)
            done += len(drawn)


def seeds(seed: int, name: str, count: int) -> list[int]:
    """The seeds of a class's images: the same for every checkpoint, whatever the other classes.

    Below 2**32, so that other programs take them too.
    """
    return [int.from_bytes(hashlib.sha256(f"{seed}/{name}/{i}".encode()).digest()[:4], "big") for i in range(count)]
