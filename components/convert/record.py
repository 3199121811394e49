"""How a model was made, for the manifest of its version: what the model card says, for programs."""

from __future__ import annotations

from typing import Any

from components.artifacts import CheckpointRef
from components.convert.metadata import Facts, code_version
from components.models.record import ModelRecord
from components.versions.pushed import at_place


def record(facts: Facts, ref: CheckpointRef) -> ModelRecord:
    """The record of the model that `facts` describe, made from the checkpoint `ref`."""
    index, decision = facts.index, facts.decision
    return ModelRecord(
        step=decision.step,
        run=index.fingerprint,
        checkpoint_uri=ref.uri,
        base_uri=index.base_uri,
        base_model=index.base_model,
        base_revision=index.base_revision,
        dataset=decision.crops.get("dataset", ""),
        dataset_revision=decision.crops.get("dataset_revision", ""),
        dataset_version=decision.crops.get("dataset_version", ""),
        crops_digest=index.crops_digest,
        resolution=index.resolution,
        prompts=index.prompts,
        metric=decision.metric,
        mode=decision.mode,
        improved=decision.improved,
        metrics=decision.chosen.get("metrics", {}),
        base_metrics=decision.base.get("metrics", {}),
        generation=decision.generation,
        settings=settings(facts),
        dtype=facts.config.dtype,
        licence=facts.config.licence,
        code_version=code_version(),
    )


def settings(facts: Facts) -> dict[str, Any]:
    """The settings that make this model again, in the form that `python -m pipelines run --params` reads."""
    decision, crops = facts.decision, facts.decision.crops
    data_set = at_place(crops["dataset"], crops.get("dataset_version", "")) if "dataset" in crops else None
    return {
        "model_name": facts.name,
        **({"dataset": data_set} if data_set else {}),
        "base_model": facts.index.base_model,
        "train": facts.index.settings,
        "select_best": {"metric": decision.metric, "mode": decision.mode},
        **decision.settings,
        "convert": facts.config.model_dump(mode="json"),
    }
