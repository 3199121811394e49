"""The train step: from crops and a base model to published checkpoints."""

from __future__ import annotations

import dataclasses
import os
import resource
import time

import torch
from accelerate import Accelerator

from components import artifacts
from components.artifacts import CheckpointIndex, CheckpointRef, CropSet
from components.base_model.opening import opened
from components.errors import Unavailable, UserError
from components.leases import held, run_scope
from components.progress import log
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store
from components.train import data, model
from components.train.config import TrainConfig
from components.train.fit import Timing, fit
from components.train.history import Diverged, History
from components.train.loop import Trainer
from components.train.prior import class_latents
from components.train.reports import Reports
from components.train.run import Run, base_tree, fingerprint, publish_base


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
    store, is another one.

    Raises:
        UserError: for crops or a base model that cannot be trained on, and for training that diverges.
    """
    started = time.monotonic()
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    crop_set = artifacts.read_json(crops / "crops.json", CropSet)
    listed = artifacts.read_crops(crops, "train")
    if not listed:
        raise UserError(f"{crops}: no training crops; lower crop.reference_fraction or add images")
    root = Store.from_env(store)
    made_of = fingerprint(crop_set.digest, base_revision, config)
    kept = base_tree(root, base_revision)
    with held(root, run_scope(made_of), "train"), opened(base_model, base_revision, kept) as folder:
        run = Run(root, made_of, config.checkpoints_total_limit)
        reports = Reports(run.store.at("reports"))
        index = run.finished()
        if index is not None:
            log(f"train: run {index.fingerprint} is already in the store, complete; nothing to train")
        else:
            index = CheckpointIndex(
                fingerprint=run.fingerprint,
                base_uri=publish_base(folder, base_revision, root),
                base_model=base_model,
                base_revision=base_revision,
                crops_digest=crop_set.digest,
                resolution=crop_set.resolution,
                prompts=crop_set.prompts,
                checkpoints=[],
                settings=config.model_dump(mode="json"),
            )
            images = data.load_images(crops / "train", listed)
            torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
            accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available())
            base = model.load(folder)
            base.vae.to(accelerator.device)
            prior = None
            if config.with_prior_preservation:
                prior = class_latents(base, folder, config, crops, crop_set, base_revision, root, accelerator.device)
            masks = data.load_masks(crops / "train", listed, crop_set.resolution) if base.inpaints else None
            texts = [crop.text for crop in listed]
            latents = data.encode(base.vae, images, texts, config.augment, accelerator.device, masks)
            # The VAE is not needed any more; on a GPU its memory is.
            base.vae.to("cpu")
            trainer = Trainer(base, latents, config.resolved(len(listed)), accelerator, prior)
            index = _trained(trainer, run, index, reports, started)
    numbers = reports.hand_over(metrics, report)
    artifacts.write_json(checkpoints / "index.json", index)
    steps = [ref.step for ref in index.refs()]
    return Result(metadata={"checkpoints": {"fingerprint": index.fingerprint, "steps": str(steps)}, "metrics": numbers})


def _trained(trainer: Trainer, run: Run, index: CheckpointIndex, reports: Reports, started: float) -> CheckpointIndex:
    """Train to the end; the completed index. Where training diverges, the page says so in the store."""
    history, timing = run.resume(trainer), Timing()

    def report(stopped: str = "") -> CheckpointIndex:
        refs = [CheckpointRef(0, None, []), *run.kept]
        whole = dataclasses.replace(index, checkpoints=[dataclasses.asdict(ref) for ref in refs])
        reports.write(whole, history, _numbers(trainer, history, timing), time.monotonic() - started, stopped)
        return whole

    try:
        fit(trainer, run, history, timing)
    except Diverged as error:
        try:
            report(str(error))
        except (UserError, Unavailable) as other:
            # What ends the step is why training was stopped, not that the store could not be told.
            log(f"train: no report: {other}")
        raise
    return run.finish(report())


def _numbers(trainer: Trainer, history: History, timing: Timing) -> dict[str, float]:
    """What KFP shows of the run: of its end, and of this attempt's time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    on_gpu = trainer.device.type == "cuda"
    return {
        "final_loss": history.recent_loss(),
        "final_learning_rate": history.rates[len(history.losses) - 1],
        "final_gradient_norm": history.norms[-1],
        "steps_per_second": timing.steps / timing.seconds,
        "images_per_second": timing.steps * trainer.config.batch / timing.seconds,
        "data_wait_share": trainer.data_seconds / timing.seconds,
        "upload_wait_share": timing.upload_wait / timing.seconds,
        "peak_memory_gb": peak / 1e9,
        **({"peak_gpu_memory_gb": torch.cuda.max_memory_allocated(trainer.device) / 1e9} if on_gpu else {}),
    }
