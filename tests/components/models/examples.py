"""Published versions as data: small trees, which are what every reader but diffusers sees of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from components.convert.publish import Identity, publish
from components.models import catalog
from components.models.record import ModelRecord
from components.storage import Store, digest_of

RECORD = ModelRecord(
    step=100,
    run="a" * 16,
    checkpoint_uri=None,
    base_uri="s3://bucket/base-models/base",
    base_model="tiny",
    base_revision="b" * 64,
    dataset="s3://bucket/datasets/boards",
    dataset_revision="d" * 64,
    dataset_version="20260101T000000Z-dddddddddddd",
    crops_digest="c" * 64,
    resolution=64,
    prompts={"short": "a photo of a short circuit"},
    metric="kd_lite0",
    mode="min",
    improved=True,
    metrics={"kd_lite0": {"value": 0.16, "low": 0.141, "high": 0.178}},
    base_metrics={"kd_lite0": {"value": 0.227, "low": 0.203, "high": 0.251}},
    generation={"num_inference_steps": 10},
    settings={"train": {"learning_rate": 0.001, "seed": 0}},
    dtype="fp16",
    licence="apache-2.0",
    code_version="0.1.0",
)


def publish_model(
    store: Store, name: str, folder: Path, weights: bytes = b"weights", record: ModelRecord | None = RECORD,
    description: str = "", **changes: Any,
) -> str:  # fmt: skip
    """Publish a small model as convert does, and point ``latest.json`` at it; its version."""
    models = store.at("models", name)
    identity = Identity(digest_of(weights.decode()), digest_of([description, changes]))

    def lay_out(version: str) -> Path:
        tree = folder / name / version
        (tree / "config").mkdir(parents=True, exist_ok=True)
        (tree / f"{name}-{version}.safetensors").write_bytes(weights)
        (tree / "README.md").write_text(f"# {name} {version} {description}")
        (tree / "config" / "model_index.json").write_text("{}")
        return tree

    made_by = {"model": dataclasses.asdict(dataclasses.replace(record, **changes))} if record else {}
    version, _ = publish(models, identity, made_by, lay_out)
    catalog.settle(models)
    return version
