"""What is left of a run for people: its page and its numbers, in the store first and then in the step's outputs.

KFP keeps nothing of a step that fails, and a run found in the store is reported as it was when it was trained.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from components.artifacts import CheckpointIndex
from components.documents import parse_json
from components.errors import UserError
from components.progress import duration, log
from components.storage import Store
from components.train import curves
from components.train.config import TrainConfig
from components.train.history import History

_PAGE, _NUMBERS = "train.html", "training.json"

_LABELS = {
    "final_loss": "loss, moving average",
    "last_step_loss": "loss of the last step",
    "final_learning_rate": "learning rate at the end",
    "final_gradient_norm": "gradient norm at the end",
    "steps_per_second": "steps a second",
    "images_per_second": "images a second",
    "data_wait_share": "share of time spent waiting for batches",
    "upload_wait_share": "share of time spent waiting for the store",
    "peak_memory_gb": "peak memory of all processes, GB",
    "peak_gpu_memory_gb": "peak memory of a GPU, GB",
}


class Reports:
    """The reports of one run, at their place in the store."""

    def __init__(self, place: Store) -> None:
        self._place = place

    def write(
        self, index: CheckpointIndex, history: History, numbers: dict[str, float], seconds: float, stopped: str
    ) -> None:
        """Put page and numbers into the store; `stopped` is why training ended early, if it did."""
        config = index.settings
        batch = TrainConfig(**config).batch
        facts = [
            ("steps", f"{len(history.losses)} of {batch} crops"),
            ("crops", f"{config['augment']} views, {len(index.prompts)} classes, {index.resolution} px"),
            ("time", duration(seconds)),
            *(
                (_LABELS[name], f"{value:.1%}" if name.endswith("_share") else f"{value:.4g}")
                for name, value in numbers.items()
            ),
        ]
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        data = {"schema": 1, "stopped": stopped, "numbers": finite, **history.data()}
        # A loss that is no number ends the lists; JSON has no word for it.
        text = json.dumps({k: _finite(v) if isinstance(v, list) else v for k, v in data.items()}, allow_nan=False)
        self._place.put_bytes(_NUMBERS, text.encode(), "application/json")
        self._place.put_bytes(_PAGE, curves.page(index, history, facts, stopped).encode(), "text/html")
        log(f"report: {self._place.uri_of(_PAGE)}")

    def hand_over(self, metrics: Path, report: Path) -> dict[str, str | int | float]:
        """Write the step's outputs from what is in the store; the numbers."""
        numbers, page = self._place.get_bytes(_NUMBERS), self._place.get_bytes(_PAGE)
        if numbers is None or page is None:
            raise UserError(f"{self._place.uri}: the run's reports are gone; delete its index.json to train again")
        try:
            found: dict[str, str | int | float] = dict(parse_json(numbers)["numbers"])
        except (ValueError, LookupError, TypeError):
            raise UserError(
                f"{self._place.uri_of(_NUMBERS)}: damaged; delete the run's index.json to train again"
            ) from None
        metrics.mkdir(parents=True, exist_ok=True)
        (metrics / _NUMBERS).write_bytes(numbers)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(page)
        return found


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
