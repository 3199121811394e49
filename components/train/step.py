"""The train step: from crops and a base model to published checkpoints."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from components import artifacts
from components.artifacts import CheckpointIndex, CropSet
from components.base_model.opening import opened
from components.base_model.revision import base_revision as found_revision
from components.base_model.revision import is_digest
from components.errors import UserError
from components.leases import held, run_scope
from components.progress import log
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store
from components.train.config import TrainConfig
from components.train.job import Job, carry_out
from components.train.processes import settled, train_together
from components.train.reports import Reports
from components.train.run import Run, base_tree, fingerprint, publish_base

#: Files of a base model that are read at the same time.
_WORKERS = 4


def train(
    config: TrainConfig,
    crops: InputPath,
    base_model: str,
    base_revision: str,
    generation: str,
    store: str,
    checkpoints: OutputPath,
    metrics: OutputPath,
    report: OutputPath,
) -> Result:
    """Fine-tune a Stable Diffusion base model on defect crops (DreamBooth with a prompt a class).

    Ruiz et al. 2023, "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven
    Generation", without its rare-token prior. Checkpoints go to the object store while training runs;
    `checkpoints` receives their index, `metrics` the course of training as numbers, `report` a page with
    its curves. `base_revision` and `generation` are snapshot's: they tell KFP's cache that the base, or the
    store, is another one. A `base_revision` that is no digest is worked out here, from the base itself.

    Raises:
        UserError: for crops or a base model that cannot be trained on, and for training that diverges.
    """
    started = time.monotonic()
    crop_set = artifacts.read_json(crops / "crops.json", CropSet)
    listed = artifacts.read_crops(crops, "train")
    if not listed:
        raise UserError(f"{crops}: no training crops; lower crop.reference_fraction or add images")
    resolved = config.resolved(len(listed))
    root = Store.from_env(store)
    if not is_digest(base_revision):
        # Written by a person: it may stand for another base tomorrow.
        base_revision = found_revision(base_model, _WORKERS)
    made_of = fingerprint(crop_set.digest, base_revision, config)
    run = Run(root, made_of)
    with held(root, run_scope(made_of), "train"):
        index = run.finished()
        if index is not None:
            log(f"train: run {index.fingerprint} is already in the store, complete; nothing to train")
        else:
            with (
                opened(base_model, base_revision, base_tree(root, base_revision)) as folder,
                tempfile.TemporaryDirectory(prefix="state-") as shared,
            ):
                index = CheckpointIndex(
                    fingerprint=made_of,
                    base_uri=publish_base(folder, base_model, base_revision, root),
                    base_model=base_model,
                    base_revision=base_revision,
                    crops_digest=crop_set.digest,
                    resolution=crop_set.resolution,
                    prompts=crop_set.prompts,
                    checkpoints=[],
                    settings=config.model_dump(mode="json"),
                )
                job = Job(settled(resolved, run.threads()), crops, folder, store, index, started, Path(shared))
                if config.num_processes == 1:
                    carry_out(job)
                else:
                    train_together(carry_out, job, job.config)
            index = run.index()
        if index is None:
            raise UserError(f"{run.store.uri}: the run's index is gone again; start the step once more")
    numbers = Reports(run.reports).hand_over(metrics, report)
    # An attempt that saved states more or less often may have written it.
    index = dataclasses.replace(index, settings=config.model_dump(mode="json"))
    artifacts.write_json(checkpoints / "index.json", index)
    steps = [ref.step for ref in index.refs()]
    return Result(metadata={"checkpoints": {"fingerprint": index.fingerprint, "steps": str(steps)}, "metrics": numbers})
