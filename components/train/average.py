"""An exponential moving average of weights, one pass over them a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Average:
    """The average of `parameters`, which starts as a copy of them.

    The decay rises as (1 + n) / (10 + n) up to the one given, so that the first steps are not remembered for long.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = [p.detach() for p in parameters], decay
        self.shadow = [p.clone() for p in self._parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Take in the parameters' present values."""
        self.steps += 1
        n = self.steps - 1
        decay = min((1 + n) / (10 + n), self._decay) if n else 0.0
        torch._foreach_lerp_(self.shadow, self._parameters, 1 - decay)

    def restore(self, steps: int, shadow: Sequence[torch.Tensor]) -> None:
        """Go on from another one's `steps` and `shadow`."""
        self.steps = steps
        for mine, given in zip(self.shadow, shadow):
            mine.copy_(given)
