"""The training loop: one optimizer step after another, each a function of its number and the seed.

Noise, time steps, views, dropped prompts and what a base with dropout drops derive from (seed, step), the order of the
crops from (seed, pass). So the state of a run is its weights, optimizer, average and step, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from components.train import devices, lora, optimizers, prompts
from components.train.average import Average
from components.train.batches import Batch, draw, seed_dropout
from components.train.config import TrainConfig
from components.train.data import LatentSet
from components.train.feed import Feed
from components.train.model import BaseModel
from components.train.snapshot import Snapshot, Tensors, packed


class Trainer:
    """Fine-tunes the UNet, and the text encoder where the settings say so, of `base` on `latents`."""

    def __init__(
        self,
        base: BaseModel,
        latents: LatentSet,
        config: TrainConfig,
        accelerator: Accelerator,
        prior: LatentSet | None = None,
    ) -> None:
        self.base, self.latents, self.config, self.accelerator = base, latents, config, accelerator
        self.prior = prior  #: images of the class prompt
        self.device = accelerator.device
        names = ["unet", *(["text_encoder"] if config.train_text_encoder else [])]
        trained: dict[str, Any] = {name: getattr(base, name).train() for name in names}
        if config.use_lora:
            lora.add(base, config)
        else:
            for part in trained.values():
                part.requires_grad_(True)
        if config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
            if config.train_text_encoder:
                base.text_encoder.gradient_checkpointing_enable({"use_reentrant": False})
        base.unet.to(self.device, memory_format=devices.memory_format(config, self.device))
        base.text_encoder.to(self.device)
        if config.compile:
            # In place: the parameters keep their names, and what reads them need not know.
            base.unet.compile(dynamic=False)
        rates = {"unet": config.learning_rate, "text_encoder": config.text_encoder_lr or config.learning_rate}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in part.parameters() if p.requires_grad], "lr": rates[name]}
            for name, part in trained.items()
        ]
        self.parameters: list[torch.nn.Parameter] = [p for group in groups for p in group["params"]]
        optimizer = optimizers.optimizer(groups, config)
        scheduler = optimizers.schedule(optimizer, config)
        self.models = {name: accelerator.prepare(part) for name, part in trained.items()}
        self.optimizer = accelerator.prepare(optimizer)
        # After the models were prepared, which moves their weights to other places in memory.
        averages = config.use_ema and accelerator.is_main_process
        self.ema = Average(self.parameters, config.ema_decay) if averages else None
        # Not handed to accelerate, which would step it once for each process.
        self.scheduler = scheduler
        self.text = self._embed_all()
        self.alphas = base.noise.alphas_cumprod.to(self.device)
        self.done = 0
        # Of the latest snapshot.
        self._weights_room: dict[str, torch.Tensor] = {}
        self._state_room: dict[str, torch.Tensor] = {}
        self.feed = Feed(self._drawn, self.device, devices.ahead(config, self.device))

    def _token_ids(self) -> torch.Tensor:
        """Token ids, int64 [texts, length]: the crops' prompts, the empty one, and the same of the class images."""
        texts = [text for part in (self.latents, self.prior) if part is not None for text in (*part.prompts, "")]
        return prompts.token_ids(self.base.tokenizer, texts).to(self.device)

    def _embed_all(self) -> torch.Tensor | None:
        """Embeddings of all prompts, once, unless the text encoder is trained and they change."""
        self.ids = self._token_ids()
        if self.config.train_text_encoder:
            return None
        with torch.no_grad():
            embedded: torch.Tensor = self.base.text_encoder(self.ids)[0]
        # It is not needed any more; on a GPU its memory is.
        self.base.text_encoder.to("cpu")
        return embedded

    def _embed(self, drawn: Batch) -> torch.Tensor:
        """Embeddings [batch, length, width] of a batch's prompts."""
        if self.text is not None:
            return self.text[drawn.prompt]
        embedded: torch.Tensor = self.models["text_encoder"](self.ids[drawn.texts])[0]
        return embedded[drawn.prompt]

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step; the mean loss of its batch and the gradients' norm, scalars still on the device."""
        config = self.config
        total = torch.zeros((), device=self.device)
        passes = config.gradient_accumulation_steps
        for micro in range(passes):
            with self._together(last=micro == passes - 1):
                loss = self._loss(self.done * passes + micro)
                self.accelerator.backward(loss / passes)
            total += loss.detach() / passes
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, "mean")
        norm = self._clip()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step()
        self.done += 1
        return total, norm

    @contextlib.contextmanager
    def _together(self, last: bool) -> Iterator[None]:
        """Processes exchange gradients in the last backward pass of a step only."""
        with contextlib.ExitStack() as stack:
            if not last:
                for model in self.models.values():
                    stack.enter_context(self.accelerator.no_sync(model))
            yield

    def _clip(self) -> torch.Tensor:
        """Clip the gradients, or have the optimizer do so; their norm before that."""
        limit = self.config.max_grad_norm
        if self.device.type != "cpu" or self.accelerator.scaler is not None:
            norm: torch.Tensor = self.accelerator.clip_grad_norm_(self.parameters, limit)
            return norm
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # The fused kernel divides gradients by this as it reads them: what gradient scalers use saves a pass here.
        self.optimizer.optimizer.grad_scale = (norm / limit).clamp(min=1.0)
        return norm

    def _drawn(self, batch: int) -> Batch:
        """This process's share of a batch, on the CPU; `feed` calls it, from another thread perhaps."""
        time_steps = self.base.noise.config.num_train_timesteps
        part, of = self.accelerator.process_index, self.accelerator.num_processes
        drawn = draw(self.latents, self.config, time_steps, batch).share(part, of)
        if self.prior is not None:
            other = draw(self.prior, self.config, time_steps, batch, stream=1).share(part, of)
            drawn = drawn.with_class(other, len(self.latents.prompts) + 1)
        # Here, since on a GPU the number of different ones would be waited for.
        return drawn.by_text() if self.config.train_text_encoder else drawn

    def _loss(self, batch: int) -> torch.Tensor:
        config, noise = self.config, self.base.noise
        drawn = self.feed.take(batch)
        seed_dropout(config, batch, self.accelerator.process_index, self.device)
        with self.accelerator.autocast():
            noisy = noise.add_noise(drawn.clean, drawn.noise, drawn.times)
            if drawn.shown is not None:
                noisy = torch.cat([noisy, drawn.shown], 1)
            predicted = self.models["unet"](noisy, drawn.times, self._embed(drawn)).sample
        velocity = noise.config.prediction_type == "v_prediction"
        target = noise.get_velocity(drawn.clean, drawn.noise, drawn.times) if velocity else drawn.noise
        error = F.mse_loss(predicted.float(), target.float(), reduction="none").mean((1, 2, 3))
        if config.snr_gamma:
            error = error * self._weights(drawn.times, velocity)
        if self.prior is None:
            return error.mean()
        crops, of_class = error.chunk(2)
        return crops.mean() + config.prior_loss_weight * of_class.mean()

    def _weights(self, times: torch.Tensor, velocity: bool) -> torch.Tensor:
        """Min-SNR weights of Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting"."""
        assert self.config.snr_gamma is not None
        alpha = self.alphas[times]
        snr = alpha / (1 - alpha)
        return snr.clamp(max=self.config.snr_gamma) / (snr + 1 if velocity else snr.clamp(min=1e-8))

    def trained(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Component → name → parameter that training moves, without accelerate's wrapping."""
        unwrap = self.accelerator.unwrap_model
        return {
            name: {key: p for key, p in unwrap(model).named_parameters() if p.requires_grad}
            for name, model in self.models.items()
        }

    def snapshot(self, publish: bool, save: bool) -> Snapshot:
        """Copies of what a checkpoint of this step holds, and where `save` of the rest of the state.

        They take the place of the snapshot before: take one when that is done with.
        """
        trained, state = self.trained(), None
        weights = packed(trained if self.ema is None else self._named(self.ema.shadow), self._weights_room)
        if save:
            scaler = self.accelerator.scaler
            held = {
                "done": self.done,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "average": None if self.ema is None else {"steps": self.ema.steps, "of": trained},
            }
            state = packed(held, self._state_room)
        return Snapshot(self.done, self.done * self.config.batch, weights, publish, state)

    def _named(self, tensors: list[torch.Tensor]) -> dict[str, Tensors]:
        """Tensors in the order of `parameters`, under the names they have in their components."""
        rest = iter(tensors)
        return {component: {key: next(rest) for key in named} for component, named in self.trained().items()}

    def restore(self, state: dict[str, Any], weights: Mapping[str, Tensors]) -> None:
        """Go on from a snapshot's state, unpacked, and its weights."""
        self.done = state["done"]
        # By the state, not by `self.ema`: of several processes one alone keeps the average, and all train on.
        models = weights if state["average"] is None else state["average"]["of"]
        with torch.no_grad():
            for component, named in self.trained().items():
                for key, parameter in named.items():
                    parameter.copy_(models[component][key])
        self.optimizer.load_state_dict(state["optimizer"])
        # The fused kernel takes moments to lie in memory as their weights do.
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                of_weights = isinstance(value, torch.Tensor) and value.shape == parameter.shape
                if of_weights and value.stride() != parameter.stride():
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        self.scheduler.load_state_dict(state["scheduler"])
        if self.ema is not None:
            shadow = [weights[component][key] for component, named in self.trained().items() for key in named]
            self.ema.restore(state["average"]["steps"], shadow)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
