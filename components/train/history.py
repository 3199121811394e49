"""The course of a training run: loss, gradient norm and learning rate of every step, and whether it goes wrong.

Numbers stay on the device until `read` is called, since reading one waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from components.errors import UserError

#: Losses are compared in means of so many steps, since one step's says mostly which noise levels were drawn.
_WINDOW = 20
#: A mean so many times that of all steps before is an explosion: by noise levels alone it stays below 4.
_EXPLOSION = 10.0


class Diverged(UserError):
    """Training has left the numbers, or all sense."""


def smooth(values: Sequence[float], weight: float = 0.95) -> np.ndarray:
    """Exponential moving average, bias-corrected; float64 of the same length."""
    average, smoothed = 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        average = weight * average + (1 - weight) * value
        smoothed[i] = average / (1 - weight ** (i + 1))
    return smoothed


@dataclass
class History:
    """One number a step in each list."""

    losses: list[float] = field(default_factory=list)  #: mean over the step's batch
    norms: list[float] = field(default_factory=list)  #: of all gradients together, before clipping
    rates: list[float] = field(default_factory=list)  #: the first parameter group's
    _pending: list[torch.Tensor] = field(default_factory=list)

    def add(self, loss: torch.Tensor, norm: torch.Tensor, rate: float) -> None:
        """Note a step; `loss` and `norm` are scalars on the device."""
        self._pending.append(torch.stack([loss, norm.to(loss.dtype)]))
        self.rates.append(rate)

    def read(self) -> None:
        """Take the numbers from the device.

        Raises:
            Diverged: for a loss that is no number, or one that explodes.
        """
        if not self._pending:
            return
        known = len(self.losses)
        for loss, norm in torch.stack(self._pending).tolist():
            self.losses.append(loss)
            self.norms.append(norm)
        self._pending.clear()
        for step, loss in enumerate(self.losses[known:], start=known + 1):
            if not math.isfinite(loss):
                raise Diverged(f"the loss at step {step} is {loss}: training diverged. {REMEDY}")
        recent, before = self.losses[-_WINDOW:], self.losses[:-_WINDOW]
        if len(before) >= _WINDOW and np.mean(recent) > _EXPLOSION * np.mean(before):
            raise Diverged(
                f"the loss explodes: its mean over steps {len(before) + 1} to {len(self.losses)} is "
                f"{np.mean(recent):.3g}, before it was {np.mean(before):.3g}. {REMEDY}"
            )

    def recent_loss(self) -> float:
        """The moving average of what has been read."""
        return float(smooth(self.losses[-100:])[-1])

    def data(self) -> dict[str, Any]:
        """What has been read, as plain lists; `of` takes it up again."""
        known = len(self.losses)
        return {"losses": self.losses[:], "norms": self.norms[:], "rates": self.rates[:known]}

    @classmethod
    def of(cls, data: dict[str, Any]) -> History:
        """The history that `data` was made of."""
        return cls(**data)


REMEDY = "Lower train.learning_rate, or raise train.lr_warmup_steps; checkpoints before it are in the store"
