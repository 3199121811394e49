"""A decision of select_best as data, for the tests of the model card and of the whole step."""

from __future__ import annotations

import dataclasses
from typing import Any

from components.artifacts import CheckpointIndex, CheckpointMetrics, CheckpointRef, Decision, Estimate


def estimate(value: float, spread: float | None = None) -> dict[str, Any]:
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    return dataclasses.asdict(Estimate(value, low, high, n=50, m=25))


def metrics(step: int, label: str, kd: float) -> dict[str, Any]:
    measured = {"kd_lite0": estimate(kd, 0.002), "fd_lite0": estimate(100 * kd)}
    return dataclasses.asdict(CheckpointMetrics(step, label, measured, {"pin-hole": measured, "short": measured}))


def checkpoint_index(base_uri: str, refs: list[CheckpointRef]) -> CheckpointIndex:
    return CheckpointIndex(
        fingerprint="f" * 64,
        base_uri=base_uri,
        base_model="/models/tiny",
        base_revision="b" * 64,
        crops_digest="c" * 64,
        resolution=64,
        prompts={"short": "a photo of a short | circuit", "pin-hole": "a photo of a pin-hole"},
        checkpoints=[dataclasses.asdict(ref) for ref in refs],
        settings={"max_train_steps": 100, "learning_rate": 0.001},
    )


def decision(index: CheckpointIndex, step: int) -> Decision:
    return Decision(
        step=step,
        metric="kd_lite0",
        mode="min",
        chosen=metrics(step, f"step {step}" if step else "base", 0.004),
        base=metrics(0, "base", 0.05),
        floor={"kd_lite0": estimate(0.001, 0.001)},
        reasons=[f"Step {step} has the smallest kd_lite0."],
        improved=step > 0,
        index=dataclasses.asdict(index),
        crops={
            "dataset": "boards/",
            "dataset_revision": "d" * 64,
            "dataset_version": "20260102T030405Z-dddddddddddd",
            "asked_revision": "e" * 64,
            "crop_settings": "f" * 64,
            "counts": {"pin-hole": {"train": 40, "reference": 20}, "short": {"train": 31, "reference": 12}},
        },
        generation={"num_inference_steps": 2, "guidance_scale": 2.5},
        settings={
            "crop": {"resolution": 64},
            "evaluate": {"seed": 3},
            "select_best": {"metric": "kd_lite0", "mode": "min"},
        },
    )
