"""How long what nobody refers to stays."""

from __future__ import annotations

from dataclasses import dataclass

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Policy:
    """Numbers of a clean-up. What a step is working with stays whatever they are."""

    keep: int = 3  #: newest versions of each model, the latest one besides
    #: Seconds after the last sign of life for which a run is taken to be under way: its next step may still wait.
    grace: float = DAY
    #: Seconds for which a run stays that no kept version was made from, and may still be finished or published.
    unpublished: float = 30 * DAY
