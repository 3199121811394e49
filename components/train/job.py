"""One training run, as the process that does it, or each of the processes that do it together, carries it out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from components import artifacts
from components.artifacts import CheckpointIndex, CheckpointRef, Crop, CropSet
from components.errors import Unavailable, UserError
from components.progress import log
from components.storage import Store
from components.train import compilation, data, devices, lora, model, processes, prompts
from components.train.config import TrainConfig
from components.train.events import Events
from components.train.fit import Timing, fit, follow
from components.train.history import Diverged, History
from components.train.loop import Trainer
from components.train.peaks import Peaks
from components.train.prior import class_latents, refuse_the_crops_own
from components.train.reports import Reports
from components.train.run import Run
from components.train.snapshot import unpacked


@dataclass(frozen=True)
class Job:
    """A run that is not in the store yet."""

    config: TrainConfig  #: `resolved` and `settled`
    crops: Path  #: the crop step's folder
    base: Path  #: diffusers folder of the base model
    store: str  #: root of the store
    index: CheckpointIndex  #: the run's, without checkpoints
    started: float  #: by `time.monotonic`
    shared: Path  #: empty folder that the run's processes share


def carry_out(job: Job) -> None:
    """Train to the end: checkpoints, reports and index are in the store then.

    Raises:
        UserError: for crops or a base model that cannot be trained on, and for training that diverges.
    """
    accelerator = processes.accelerator(job.config)
    trainer = _trainer(job, accelerator)
    run = Run(Store.from_env(job.store), job.index.fingerprint, job.config.checkpoints_total_limit)
    peaks = Peaks(job.shared, accelerator.process_index, accelerator.device)
    if accelerator.is_main_process:
        history = run.resume(trainer)
        _share_state(trainer, job.shared)
        _lead(job, trainer, run, history, peaks)
    else:
        _take_state(trainer, job.shared)
        follow(trainer, peaks.note)


def _trainer(job: Job, accelerator: Accelerator) -> Trainer:
    config, crops = job.config, job.crops
    devices.set_arithmetic(config)
    if config.compile:
        compilation.check(accelerator.device, job.shared / "compiled")
    listed = artifacts.read_crops(crops, "train")
    crop_set = artifacts.read_json(crops / "crops.json", CropSet)
    images = data.load_images(crops / "train", listed)
    base = model.load(job.base, job.index.base_model)
    if config.use_lora:
        # Now, not when the crops are encoded and the class images drawn.
        lora.check(base, config)
    _check_prompts(base, config, listed)
    base.vae.to(accelerator.device, memory_format=devices.memory_format(config, accelerator.device))
    prior = None
    if config.with_prior_preservation:
        # The first process draws and stores the images, the others find them there.
        with accelerator.main_process_first():
            prior = class_latents(
                base,
                job.base,
                config,
                crops,
                crop_set,
                job.index.base_revision,
                Store.from_env(job.store),
                accelerator.device,
            )
    masks = data.load_masks(crops / "train", listed, crop_set.resolution) if base.inpaints else None
    texts = [crop.text for crop in listed]
    latents = data.encode(base.vae, images, texts, config.augment, accelerator.device, masks)
    # The VAE is not needed any more; on a GPU its memory is.
    base.vae.to("cpu")
    return Trainer(base, latents, config, accelerator, prior)


def _check_prompts(base: model.BaseModel, config: TrainConfig, crops: Sequence[Crop]) -> None:
    """Refuse prompts that would be learned as one, before anything is encoded or drawn."""
    uses = {crop.text: crop.defect for crop in crops}
    if config.with_prior_preservation and config.class_prompt is not None:
        refuse_the_crops_own(config.class_prompt, crops)
        uses[config.class_prompt] = "train.class_prompt"
    prompts.check(base, uses)


def _share_state(trainer: Trainer, shared: Path) -> None:
    """Have the other processes go on from where this one does, whatever they would find in the store by now."""
    if trainer.accelerator.num_processes == 1:
        return
    if trainer.done:
        snapshot = trainer.snapshot(publish=False, save=True)
        with (shared / "state.pt").open("wb") as file:
            torch.save({"trainer": snapshot.state, "weights": snapshot.weights}, file)
    trainer.accelerator.wait_for_everyone()
    # Until all have read it.
    trainer.accelerator.wait_for_everyone()
    (shared / "state.pt").unlink(missing_ok=True)


def _take_state(trainer: Trainer, shared: Path) -> None:
    trainer.accelerator.wait_for_everyone()
    if (shared / "state.pt").exists():
        state = torch.load(shared / "state.pt", weights_only=True, map_location="cpu", mmap=True)
        trainer.restore(unpacked(state["trainer"]), unpacked(state["weights"]))
    trainer.accelerator.wait_for_everyone()


def _lead(job: Job, trainer: Trainer, run: Run, history: History, peaks: Peaks) -> None:
    """Train to the end and complete the run. Where training diverges, the page says so in the store."""
    timing, reports = Timing(), Reports(run.reports)
    events = Events(run.reports, run.attempt, trainer.done)

    def report(stopped: str = "") -> CheckpointIndex:
        refs = [CheckpointRef(0, None, []), *run.kept]
        whole = dataclasses.replace(job.index, checkpoints=[dataclasses.asdict(ref) for ref in refs])
        seconds = time.monotonic() - job.started
        numbers = {**_numbers(trainer, history, timing), **peaks.numbers()}
        reports.write(whole, history, numbers, seconds, stopped)
        return whole

    try:
        fit(trainer, run, history, events, timing)
    except Diverged as error:
        try:
            events.upload(history, patience=0)()
            report(str(error))
        except (UserError, Unavailable) as other:
            # What ends the step is why training was stopped, not that the store could not be told.
            log(f"train: no report: {other}")
        raise
    run.finish(report())


def _numbers(trainer: Trainer, history: History, timing: Timing) -> dict[str, float]:
    """What KFP shows of the run: of its end, and of this attempt's time."""
    return {
        "final_loss": history.recent_loss(),
        "last_step_loss": history.losses[-1],
        "final_learning_rate": history.rates[len(history.losses) - 1],
        "final_gradient_norm": history.norms[-1],
        "steps_per_second": timing.steps / timing.seconds,
        "images_per_second": timing.steps * trainer.config.batch / timing.seconds,
        "data_wait_share": trainer.feed.waited / timing.seconds,
        "upload_wait_share": timing.upload_wait / timing.seconds,
    }
