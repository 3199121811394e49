"""The train step: from crops and a base model to published checkpoints."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from components import artifacts
from components.artifacts import CheckpointIndex, CheckpointRef, CropSet
from components.errors import UserError
from components.leases import held, run_scope
from components.progress import Progress, duration, log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Store
from components.train import curves, data, model
from components.train.config import TrainConfig
from components.train.loop import Trainer
from components.train.run import Run, fingerprint, publish_base


def train(
    config: TrainConfig,
    crops: InputPath,
    base_model: str,
    base_revision: str,
    generation: str,
    store: str,
    checkpoints: OutputPath,
    report: OutputPath,
) -> Result:
    """Fine-tune a Stable Diffusion base model on defect crops (DreamBooth with a prompt a class).

    Ruiz et al. 2023, "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven
    Generation", without its rare-token prior. Checkpoints go to the object store while training runs;
    `checkpoints` receives their index, `report` a page with the loss curve. `base_revision` and
    `generation` are snapshot's: they tell KFP's cache that the base, or the store, is another one.

    Raises:
        UserError: for crops or a base model that cannot be trained on, and for a loss that is no number.
    """
    started = time.monotonic()
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    crop_set = artifacts.read_json(crops / "crops.json", CropSet)
    listed = artifacts.read_crops(crops, "train")
    if not listed:
        raise UserError(f"{crops}: no training crops; lower crop.reference_fraction or add images")
    root = Store.from_env(store)
    made_of = fingerprint(crop_set.digest, base_revision, config)
    with held(root, run_scope(made_of), "train"), tempfile.TemporaryDirectory(prefix="base-") as temporary:
        folder = _base_folder(base_model, Path(temporary))
        run = Run(root, made_of)
        index, losses = run.finished(), []
        if index is not None:
            log(f"train: run {index.fingerprint} is already in the store, complete; nothing to train")
        else:
            base_uri = publish_base(folder, base_revision, root)
            images = data.load_images(crops / "train", listed)
            accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available())
            trainer = _trainer(model.load(folder), images, listed, config, accelerator)
            losses = _fit(trainer, run)
            index = CheckpointIndex(
                fingerprint=run.store.uri.rpartition("/")[2],
                base_uri=base_uri,
                base_model=base_model,
                base_revision=base_revision,
                crops_digest=crop_set.digest,
                resolution=crop_set.resolution,
                prompts=crop_set.prompts,
                checkpoints=[dataclasses.asdict(ref) for ref in [CheckpointRef(0, None, []), *run.refs]],
                settings=config.model_dump(mode="json"),
            )
    seconds = time.monotonic() - started
    facts = [
        ("crops", f"{len(listed)} of {len(crop_set.classes)} classes, {crop_set.resolution} px"),
        ("steps", f"{config.max_train_steps} of {_batch(config)} images"),
        ("time", duration(seconds)),
        ("peak memory", size(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)),
    ]
    _report(root, index, losses, facts, report)
    if losses:
        run.finish(index)
    artifacts.write_json(checkpoints / "index.json", index)
    final = {"final_loss": float(curves.smooth(losses)[-1])} if losses else {}
    steps = [ref.step for ref in index.refs()]
    return Result(metadata={"checkpoints": {"fingerprint": index.fingerprint, "steps": str(steps), **final}})


def _batch(config: TrainConfig) -> int:
    return config.train_batch_size * config.gradient_accumulation_steps


def _base_folder(base_model: str, temporary: Path) -> Path:
    """The base model as a local folder, fetched from the store where it is a tree there."""
    if base_model.startswith("s3://"):
        tree = Store.from_env(base_model)
        if tree.manifest() is None:
            raise UserError(f"base_model {base_model}: there is no complete model; mirror it into the store first")
        tree.get_tree(temporary)
        folder = temporary
    else:
        folder = Path(base_model)
        if not folder.is_dir():
            raise UserError(f"base_model {base_model}: no such folder; give a diffusers folder or an s3:// URI")
    model.check_folder(folder)
    return folder


def _trainer(
    base: model.BaseModel,
    images: object,
    listed: list[artifacts.Crop],
    config: TrainConfig,
    accelerator: Accelerator,
) -> Trainer:
    base.vae.to(accelerator.device)
    latents = data.encode(base.vae, images, listed, config.augment, accelerator.device)  # type: ignore[arg-type]
    # The VAE is not needed any more; on a GPU its memory is.
    base.vae.to("cpu")
    return Trainer(base, latents, config, accelerator)


def _fit(trainer: Trainer, run: Run) -> list[float]:
    """Train to the end, publishing on the way; the loss of every step."""
    config = trainer.config
    losses = run.resume(trainer)
    pending: list[torch.Tensor] = []
    progress = Progress("training", config.max_train_steps)
    progress.begin(trainer.done)
    while trainer.done < config.max_train_steps:
        pending.append(trainer.step())
        last = trainer.done == config.max_train_steps
        publish = trainer.done % config.checkpointing_steps == 0 or last
        save = config.state_every > 0 and trainer.done % config.state_every == 0 and not last
        if publish or save or progress.due():
            # Asked for here only: reading a loss waits for the device.
            losses += torch.stack(pending).tolist()
            pending.clear()
            _check_finite(losses, trainer)
        if publish:
            ref = run.publish(trainer.done, trainer.done * _batch(config), trainer)
            log(f"checkpoint {ref.step} published to {ref.uri}")
        if save:
            run.save_state(trainer, losses)
        if not pending:
            rate = trainer.scheduler.get_last_lr()[0]
            progress.update(trainer.done, loss=float(curves.smooth(losses[-100:])[-1]), learning_rate=rate)
    return losses


def _check_finite(losses: list[float], trainer: Trainer) -> None:
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss at step {step} is {loss}: training diverged. Lower train.learning_rate "
                f"(now {trainer.config.learning_rate:g}); checkpoints before it are in the store"
            )


def _report(root: Store, index: CheckpointIndex, losses: list[float], facts: list[tuple[str, str]], path: Path) -> None:
    """The page goes to the store first: KFP keeps nothing of a step that fails afterwards."""
    kept = root.at("train", index.fingerprint, "reports")
    if losses:
        kept.put_bytes("train.html", curves.page(index, losses, facts).encode(), "text/html")
    stored = kept.get_bytes("train.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stored if stored is not None else curves.page(index, [0.0], facts).encode())
    log(f"report: {kept.uri}/train.html")
