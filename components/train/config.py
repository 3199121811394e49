"""Settings of the train step, with the names that diffusers' DreamBooth script made customary."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.settings import Settings


class TrainConfig(Settings):
    """How the base model is fine-tuned. The resolution is the crops' (`crop.resolution`)."""

    max_train_steps: int = Field(800, ge=1, le=1_000_000, description="Optimizer steps in all.")
    checkpointing_steps: int = Field(
        200, ge=1, description="A checkpoint is published every so many steps, and after the last."
    )
    train_batch_size: int = Field(4, ge=1, le=4096, description="Crops a forward pass, per process.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=1024, description="Forward passes an optimizer step; the effective batch is the product."
    )
    learning_rate: float = Field(5e-6, gt=0, le=1, description="Peak learning rate of the UNet.")
    text_encoder_lr: float | None = Field(
        None, gt=0, le=1, description="Learning rate of the text encoder; the UNet's where not given."
    )
    lr_scheduler: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Course of the learning rate after the warm-up."
    )
    lr_warmup_steps: int = Field(0, ge=0, description="Steps over which the rate rises from 0.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the first moment.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's decay of the second moment.")
    adam_weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay.")
    adam_epsilon: float = Field(1e-8, gt=0, le=1, description="AdamW's epsilon.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    train_text_encoder: bool = Field(False, description="Train the text encoder too: better class names, more memory.")
    use_ema: bool = Field(False, description="Publish an exponential moving average of the weights.")
    ema_decay: float = Field(0.999, gt=0, lt=1, description="Decay of the average, per optimizer step.")
    prompt_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of crops trained with the empty prompt, which classifier-free guidance needs.",
    )
    snr_gamma: float | None = Field(
        None,
        gt=0,
        description="Min-SNR loss weighting with this gamma (5 is customary); off where not given.",
    )
    augment: Literal["none", "flip", "dihedral"] = Field(
        "flip",
        description="Views of each crop: as it is; with its mirror image; or all 8 flips and quarter turns. "
        "Never turn what has a right way up, such as text.",
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Autocast of forward and backward passes; fp16 needs a GPU."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about a third slower."
    )
    state_every: int = Field(
        500, ge=0, description="Steps between saved training states, which bound what a lost node costs; 0: none."
    )
    state_every_minutes: float = Field(
        0,
        ge=0,
        le=1440,
        description="Minutes between saved states where `state_every` takes longer; 0: by steps alone.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Data order, noise and time steps derive from it.")
    num_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads; all cores where not given. Weights depend on it in the last bits.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.checkpointing_steps > self.max_train_steps:
            raise ValueError(
                f"checkpointing_steps ({self.checkpointing_steps}) is above max_train_steps "
                f"({self.max_train_steps}); lower it so that there is a checkpoint to choose from"
            )
        if self.lr_warmup_steps >= self.max_train_steps:
            raise ValueError(
                f"lr_warmup_steps ({self.lr_warmup_steps}) must be below max_train_steps ({self.max_train_steps})"
            )
        return self

    @property
    def batch(self) -> int:
        """Crops an optimizer step."""
        return self.train_batch_size * self.gradient_accumulation_steps

    @property
    def saves_states(self) -> bool:
        """Whether an interrupted run can go on."""
        return self.state_every > 0 or self.state_every_minutes > 0
