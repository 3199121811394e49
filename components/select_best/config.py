"""Settings of the select_best step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.settings import Settings


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
    prefer_earlier: bool = Field(
        False,
        description="Take the earliest checkpoint whose value lies within the best one's interval, not the best "
        "value: less training, less copying.",
    )
    max_memorised: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Leave out trained checkpoints whose share of memorised images is above this; no limit where "
        "not given.",
    )
    allow_base: bool = Field(
        True,
        description="Keep the untrained base where no checkpoint is surely better than it; where false, the best "
        "trained checkpoint is taken all the same, and the decision says so.",
    )
