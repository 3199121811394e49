"""Settings of the evaluate step."""

from __future__ import annotations

from collections.abc import Mapping
from pydantic import Field

from components.settings import Settings

#: Crops of a class, on each side, below which no interval can be given.
MIN_CROPS = 4
_REMEDIES = {
    "reference": "raise crop.reference_fraction or add images",
    "train": "lower crop.reference_fraction or add images",
}


class EvaluateConfig(Settings):
    """How many images every checkpoint draws, how it draws them, and what they are measured with."""

    images_per_class: int = Field(
        50,
        ge=4,
        le=5000,
        description="Images each checkpoint draws of each class. The interval of kd_lite0 narrows with the "
        "smaller of this and the number of reference crops.",
    )
    num_inference_steps: int = Field(
        20,
        ge=2,
        le=1000,
        description="DPM-Solver++ steps an image. On board defects drawn by the tiny model, kd_lite0 was the same at "
        "10, 20 and 50.",
    )
    guidance_scale: float = Field(
        3.0,
        ge=1,
        le=30,
        description="Classifier-free guidance; 1 is none and takes half the time.",
    )
    batch_size: int = Field(
        16, ge=1, le=512, description="Images drawn at once. Bounds memory; what is drawn does not depend on it."
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="The noise of every image derives from it; all checkpoints get the same."
    )
    images_kept: int = Field(
        16,
        ge=0,
        le=5000,
        description="Images of each class and checkpoint that are kept as PNG; all of them are measured.",
    )
    num_threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; all cores where not given. Moves the last digits."
    )


def too_few(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for every class and split (class → split → crops) that has too few to measure."""
    return [
        f"class {name!r} has {count} {split} crops, evaluate needs {MIN_CROPS}; {_REMEDIES[split]}, or leave the "
        "class out with crop.classes"
        for name, splits in counts.items()
        for split, count in splits.items()
        if count < MIN_CROPS
    ]
