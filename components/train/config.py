"""Settings of the train step, with the names that diffusers' DreamBooth script made customary."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from components.errors import UserError
from components.settings import Settings

#: Setting → the settings, with their values, without which it has no effect.
_COUNTS_WITH: dict[str, dict[str, Any]] = {
    "text_encoder_lr": {"train_text_encoder": True},
    "lr_num_cycles": {"lr_scheduler": "cosine_with_restarts"},
    "lr_power": {"lr_scheduler": "polynomial"},
    **{key: {"use_lora": True} for key in ("lora_rank", "lora_alpha", "lora_target_modules")},
    "lora_text_target_modules": {"use_lora": True, "train_text_encoder": True},
    "ema_decay": {"use_ema": True},
    **{key: {"with_prior_preservation": True} for key in ("class_images", "class_prompt", "prior_loss_weight")},
    "num_class_images": {"with_prior_preservation": True, "class_images": "draw"},
}

#: The rate that diffusers' `polynomial` ends at.
_POLYNOMIAL_END = 1e-7


class TrainConfig(Settings):
    """How the base model is fine-tuned. The resolution is the crops' (`crop.resolution`)."""

    max_train_steps: int = Field(800, ge=1, le=1_000_000, description="Optimizer steps in all.")
    num_train_epochs: int | None = Field(
        None, ge=1, le=100_000, description="Passes over the crops, which decide the steps instead of max_train_steps."
    )
    checkpointing_steps: int = Field(
        200, ge=1, description="A checkpoint is published every so many steps, and after the last."
    )
    train_batch_size: int = Field(4, ge=1, le=4096, description="Crops a forward pass, per process.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=1024, description="Forward passes an optimizer step; the effective batch is the product."
    )
    num_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that train together in one pod, one a GPU; the effective batch is so many times larger.",
    )
    checkpoints_total_limit: int | None = Field(
        None,
        ge=1,
        description="Only so many checkpoints, the newest, are kept for evaluate; all where not given. A run with "
        "another limit is another run, trained from the start.",
    )
    learning_rate: float = Field(5e-6, gt=0, le=1, description="Peak learning rate of the UNet.")
    scale_lr: bool = Field(False, description="Multiply the learning rates by the effective batch.")
    text_encoder_lr: float | None = Field(
        None, gt=0, le=1, description="Learning rate of the text encoder; the UNet's where not given."
    )
    lr_scheduler: Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"] = Field(
        "constant", description="Course of the learning rate after the warm-up."
    )
    lr_num_cycles: int = Field(1, ge=1, description="Restarts of `cosine_with_restarts`, the first run included.")
    lr_power: float = Field(1.0, gt=0, description="Power of `polynomial`, which ends at a rate of 1e-7.")
    lr_warmup_steps: int = Field(0, ge=0, description="Steps over which the rate rises from 0.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the first moment.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's decay of the second moment.")
    adam_weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decoupled weight decay.")
    adam_epsilon: float = Field(1e-8, gt=0, le=1, description="AdamW's epsilon.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    use_8bit_adam: bool = Field(False, description="AdamW with 8-bit moments; needs a GPU and bitsandbytes.")
    use_lora: bool = Field(
        False, description="Train low-rank updates (LoRA) of frozen weights: a fraction of the memory and of the bytes."
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="Rank of the updates.")
    lora_alpha: float | None = Field(
        None, gt=0, description="Updates are scaled by alpha / rank; the rank where not given, which scales by 1."
    )
    lora_target_modules: list[str] = Field(
        ["to_q", "to_k", "to_v", "to_out.0"], min_length=1, description="Modules of the UNet that are updated, by name."
    )
    lora_text_target_modules: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "out_proj"], min_length=1, description="The same of the text encoder."
    )
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
    with_prior_preservation: bool = Field(
        False,
        description="Train on images of class_prompt too, so that what it names is not forgotten.",
    )
    class_images: Literal["draw", "crops"] = Field(
        "draw",
        description="Where they come from: drawn by the base model, or the defect-free crops that "
        "crop.normal_per_image cuts.",
    )
    class_prompt: str | None = Field(
        None,
        min_length=1,
        description="What to preserve, for example 'a photo of a circuit board': not a prompt of the crops.",
    )
    num_class_images: int = Field(100, ge=1, le=100_000, description="Images of class_prompt that are drawn, once.")
    prior_loss_weight: float = Field(1.0, gt=0, description="Weight of their loss beside the crops'.")
    noise_offset: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of noise that is one over the whole image; epsilon models then draw darker and lighter.",
    )
    augment: Literal["none", "flip", "dihedral"] = Field(
        "flip",
        description="Views of each crop: as it is; with its mirror image; or all 8 flips and quarter turns. "
        "Never turn what has a right way up, such as text.",
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Autocast of forward and backward passes; fp16 needs a GPU."
    )
    allow_tf32: bool = Field(
        False,
        description="Faster matrix products on Ampere GPUs and later, of 10-bit precision; without one, no effect.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about a third slower."
    )
    compile: bool = Field(
        False,
        description="Compile the UNet (torch.compile) before the first step, which takes minutes; needs a C++ compiler "
        "where training runs.",
    )
    channels_last: bool | None = Field(
        None,
        description="Keep the channels of a pixel together in memory, as a GPU's convolutions want it; where not "
        "given, on a GPU without use_8bit_adam.",
    )
    prefetch: bool | None = Field(
        None, description="Draw a step's batch while the one before it computes; where not given, on a GPU."
    )
    deterministic: bool = Field(
        False,
        description="Only algorithms that give the same bits each time, so that a run on a GPU can be repeated, and "
        "resumed, to the very same weights; slower there. A CPU's are without it.",
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
    seed: int = Field(0, ge=0, lt=2**32, description="Data order, noise, time steps and dropout derive from it.")
    num_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of each process. Weights depend on it in the last bits. Where not given: all cores "
        "that affinity and the container's CPU limit leave to the step, shared out, and after an interruption as many "
        "as before it.",
    )

    @model_validator(mode="after")
    def _all_count(self) -> TrainConfig:
        """Refuse what would change the fingerprint and nothing else. Defaults pass: settings may arrive complete.

        Where what it counts with was switched off, as by ``use_ema: false`` over a file with an `ema_decay`, it is
        meant to lie idle, and is as if it had been left out.
        """
        mistakes: list[InitErrorDetails] = []
        for name, others in _COUNTS_WITH.items():
            given, default = getattr(self, name), type(self).model_fields[name].default
            lacking = {k: f"{k}: {str(v).lower()}" for k, v in others.items() if getattr(self, k) != v}
            if given != default and {k for k in lacking if getattr(self, k) is False} & self.model_fields_set:
                self.__dict__[name] = default
            elif given != default and lacking:
                usual = "" if default is None else f", whose default is {default}"
                text = (
                    f"has no effect without {' and '.join(lacking.values())}; set that too, or leave out {name}{usual}"
                )
                # The text as a value: what stands in braces in it is no placeholder.
                error = PydanticCustomError("no_effect", "{text}", {"text": text})
                mistakes.append(InitErrorDetails(type=error, loc=(name,), input=given))
        if mistakes:
            raise ValidationError.from_exception_data(type(self).__name__, mistakes)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.with_prior_preservation and self.class_prompt is None:
            raise ValueError("with_prior_preservation needs class_prompt: what the base model is to go on drawing")
        if self.channels_last and self.use_8bit_adam:
            raise ValueError("channels_last and use_8bit_adam exclude each other: bitsandbytes lays weights out anew")
        rate = self.learning_rate * (self.batch if self.scale_lr else 1)
        if self.lr_scheduler == "polynomial" and rate <= _POLYNOMIAL_END:
            raise ValueError(
                f"learning_rate ({rate:g}) must be above {_POLYNOMIAL_END:g}, where lr_scheduler polynomial ends"
            )
        if self.num_train_epochs is not None:
            # The steps are known when the crops are counted: `resolved` looks at them.
            return self
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
    def alpha(self) -> float:
        """LoRA's alpha."""
        return self.lora_rank if self.lora_alpha is None else self.lora_alpha

    def resolved(self, crops: int) -> TrainConfig:
        """The settings with what depends on the number of crops worked out: steps and learning rates.

        Raises:
            UserError: where the passes are fewer steps than the warm-up, or than those to the first checkpoint.
        """
        changed: dict[str, Any] = {"num_train_epochs": None, "scale_lr": False}
        if self.num_train_epochs is not None:
            steps = max(1, round(self.num_train_epochs * crops / self.batch))
            found = f"train.num_train_epochs ({self.num_train_epochs}) over {crops} crops are {steps} steps"
            problems = []
            if self.checkpointing_steps > steps:
                problems.append(
                    f"{found}, and train.checkpointing_steps ({self.checkpointing_steps}) is above that; lower it so "
                    "that there is a checkpoint to choose from"
                )
            if self.lr_warmup_steps >= steps:
                problems.append(f"{found}; train.lr_warmup_steps ({self.lr_warmup_steps}) must be below that")
            if problems:
                raise UserError(*problems)
            changed |= {"max_train_steps": steps}
        if self.scale_lr:
            changed |= {"learning_rate": self.learning_rate * self.batch}
            if self.text_encoder_lr is not None:
                changed |= {"text_encoder_lr": self.text_encoder_lr * self.batch}
        return self.model_copy(update=changed)

    @property
    def batch(self) -> int:
        """Crops an optimizer step."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.num_processes

    @property
    def saves_states(self) -> bool:
        """Whether an interrupted run can go on."""
        return self.state_every > 0 or self.state_every_minutes > 0
