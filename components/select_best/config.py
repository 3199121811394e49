"""Settings of the select_best step."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from components.settings import Settings

_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


class Bound(NamedTuple):
    """What a metric's value has to keep to."""

    comparison: str  #: <, <=, > or >=
    limit: float

    def holds(self, value: float) -> bool:
        below = value < self.limit or (self.comparison[1:] == "=" and value == self.limit)
        above = value > self.limit or (self.comparison[1:] == "=" and value == self.limit)
        return below if self.comparison[0] == "<" else above


class SelectBestConfig(Settings):
    """By what a checkpoint is chosen."""

    metric: str = Field(
        "kd_lite0",
        min_length=1,
        description="Metric to choose by, as evaluate names it. kd_lite0 has an interval and does not depend on "
        "the number of images.",
    )
    mode: Literal["auto", "min", "max"] = Field(
        "auto", description="Whether the smallest or the largest value is best; auto: the metric's own direction."
    )
    constraints: dict[str, str] = Field(
        {},
        description="What a checkpoint has to keep to, by metric: {memorised: <0.05, class_alignment: '>=0.5'}. Values "
        "are as in metrics.json (shares 0 to 1). The base has to keep to it, too.",
    )
    tie: Literal["best", "earliest"] = Field(
        "best",
        description="earliest: of the checkpoints that cannot be told from the best one (by the paired difference "
        "where there is one, by the best one's interval where not) the earliest: less training, less copying.",
    )
    min_images: int = Field(
        4,
        ge=1,
        le=1_000_000,
        description="Generated and real images, of all classes together, that the metric has to rest on.",
    )
    allow_base: bool = Field(
        True,
        description="Keep the untrained base where no checkpoint is surely better than it; where false, the best "
        "trained checkpoint is taken all the same, and the decision says so.",
    )

    @field_validator("constraints")
    @classmethod
    def _bounds(cls, constraints: dict[str, str]) -> dict[str, str]:
        wrong = [f"{name}: {text!r}" for name, text in constraints.items() if not _BOUND.fullmatch(text)]
        if wrong:
            raise ValueError(f"a bound is <, <=, > or >= and a number, such as '<0.05'; not {', '.join(wrong)}")
        return constraints

    def bounds(self) -> dict[str, Bound]:
        """`constraints`, read."""
        found = {}
        for name, text in self.constraints.items():
            match = _BOUND.fullmatch(text)
            assert match is not None
            found[name] = Bound(match[1], float(match[2]))
        return found
