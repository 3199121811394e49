"""The training loop: one optimizer step after another, each a function of its number and the seed.

Noise, time steps, views and dropped prompts derive from (seed, step), the order of the crops from
(seed, pass). So the state of a run is its weights, optimizer, average and step, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from components.train.config import TrainConfig
from components.train.data import LatentSet, batch_indices, generator
from components.train.model import BaseModel


class Trainer:
    """Fine-tunes the UNet, and the text encoder where the settings say so, of `base` on `latents`."""

    def __init__(self, base: BaseModel, latents: LatentSet, config: TrainConfig, accelerator: Accelerator) -> None:
        self.base, self.latents, self.config, self.accelerator = base, latents, config, accelerator
        self.device = accelerator.device
        trained = {
            "unet": base.unet,
            **({"text_encoder": base.text_encoder} if config.train_text_encoder else {}),
        }
        for part in trained.values():
            part.train().requires_grad_(True)
        if config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
            if config.train_text_encoder:
                base.text_encoder.gradient_checkpointing_enable()
        base.unet.to(self.device)
        base.text_encoder.to(self.device)
        rates = {"unet": config.learning_rate, "text_encoder": config.text_encoder_lr or config.learning_rate}
        groups: list[dict[str, Any]] = [
            {"params": list(part.parameters()), "lr": rates[name]} for name, part in trained.items()
        ]
        self.names = sorted(trained)
        self.parameters = [p for group in groups for p in group["params"]]
        # One pass over the parameters instead of one for each of AdamW's operations: the largest single
        # saving of a step at small batches, on CPU and GPU alike.
        optimizer = torch.optim.AdamW(
            groups,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
            eps=config.adam_epsilon,
            fused=True,
        )
        scheduler = get_scheduler(
            "constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler,
            optimizer,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=config.max_train_steps,
        )
        self.ema = EMAModel(self.parameters, decay=config.ema_decay, foreach=True) if config.use_ema else None
        self.models = {name: accelerator.prepare(part) for name, part in trained.items()}
        self.optimizer = accelerator.prepare(optimizer)
        # Not handed to accelerate, which would step it once for each process.
        self.scheduler = scheduler
        self.text = self._embed_all()
        self.alphas = base.noise.alphas_cumprod.to(self.device)
        self.done = 0

    def _token_ids(self) -> torch.Tensor:
        """Token ids, int64 [prompts + 1, length], of every prompt and, last, the empty one."""
        tokenizer = self.base.tokenizer
        ids: torch.Tensor = tokenizer(
            [*self.latents.prompts, ""],
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.device)

    def _embed_all(self) -> torch.Tensor | None:
        """Embeddings of all prompts, once, unless the text encoder is trained and they change."""
        self.ids = self._token_ids()
        if self.config.train_text_encoder:
            return None
        with torch.no_grad():
            embedded: torch.Tensor = self.base.text_encoder(self.ids)[0]
        return embedded

    def _embed(self, prompt: torch.Tensor) -> torch.Tensor:
        """Embeddings [batch, length, width] of the prompts with these indices, int64 [batch]."""
        if self.text is not None:
            return self.text[prompt]
        different, place = torch.unique(prompt, return_inverse=True)
        embedded: torch.Tensor = self.models["text_encoder"](self.ids[different])[0]
        return embedded[place]

    def step(self) -> torch.Tensor:
        """One optimizer step; the mean loss of its batch as a detached scalar, still on the device."""
        config = self.config
        total = torch.zeros((), device=self.device)
        for micro in range(config.gradient_accumulation_steps):
            loss = self._loss(self.done * config.gradient_accumulation_steps + micro)
            self.accelerator.backward(loss / config.gradient_accumulation_steps)
            total += loss.detach() / config.gradient_accumulation_steps
        self.accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step(self.parameters)
        self.done += 1
        return total

    def _loss(self, batch: int) -> torch.Tensor:
        config, latents, noise = self.config, self.latents, self.base.noise
        count = config.train_batch_size
        random = generator(config.seed, 2, batch)
        chosen = batch_indices(len(latents), count, batch, config.seed)
        views = torch.randint(latents.mean.shape[1], (count,), generator=random)
        shape = (count, *latents.mean.shape[2:])
        clean = latents.mean[chosen, views] + latents.std[chosen, views] * torch.randn(shape, generator=random)
        added = torch.randn(shape, generator=random)
        times = torch.randint(noise.config.num_train_timesteps, (count,), generator=random)
        prompt = latents.prompt[chosen].clone()
        prompt[torch.rand(count, generator=random) < config.prompt_dropout] = len(latents.prompts)

        clean, added = clean.to(self.device), added.to(self.device)
        times, prompt = times.to(self.device), prompt.to(self.device)
        with self.accelerator.autocast():
            predicted = self.models["unet"](noise.add_noise(clean, added, times), times, self._embed(prompt)).sample
        velocity = noise.config.prediction_type == "v_prediction"
        target = noise.get_velocity(clean, added, times) if velocity else added
        error = F.mse_loss(predicted.float(), target.float(), reduction="none").mean((1, 2, 3))
        return (error * self._weights(times, velocity)).mean() if config.snr_gamma else error.mean()

    def _weights(self, times: torch.Tensor, velocity: bool) -> torch.Tensor:
        """Min-SNR weights of Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting"."""
        assert self.config.snr_gamma is not None
        alpha = self.alphas[times]
        snr = alpha / (1 - alpha)
        return snr.clamp(max=self.config.snr_gamma) / (snr + 1 if velocity else snr.clamp(min=1e-8))

    @contextlib.contextmanager
    def published(self) -> Iterator[dict[str, Any]]:
        """Component → module with the weights to publish: within it, the average where there is one."""
        if self.ema is not None:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        try:
            yield {name: self.part(name) for name in self.names}
        finally:
            if self.ema is not None:
                self.ema.restore(self.parameters)

    def part(self, name: str) -> Any:
        """A trained component without accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.models[name])

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, tensors and plain numbers only."""
        return {
            "done": self.done,
            "models": {name: self.part(name).state_dict() for name in self.names},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.done = state["done"]
        for name in self.names:
            self.part(name).load_state_dict(state["models"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
