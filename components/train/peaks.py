"""The most memory that a run has taken: of all its processes together, and of a GPU."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import torch

from components.memory import own_peak, peak_of_running


class Peaks:
    """What each process of a run has held at most, each noting its own in a folder that they share.

    In files, since the main process asks when training has diverged, too: the others would answer no collective then.
    """

    def __init__(self, folder: Path, rank: int, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._own = np.memmap(folder / f"peaks-{rank}", np.int64, "w+", shape=2)

    def note(self) -> None:
        """Note this process's peaks so far: of its memory and of its GPU's, bytes."""
        on_gpu = self._device.type == "cuda"
        self._own[:] = own_peak(), torch.cuda.max_memory_allocated(self._device) if on_gpu else 0

    def numbers(self) -> dict[str, float]:
        """GB: the sum of the processes' memory, that of the one that started them included; the largest of the GPUs'.

        Pages that processes share, such as a library's, count in each. Without a GPU there is no second number.
        """
        self.note()
        held = np.stack([np.fromfile(path, np.int64, 2) for path in self._folder.glob("peaks-*")])
        starter = multiprocessing.parent_process() if len(held) > 1 else None
        memory = held[:, 0].sum() + (peak_of_running(starter.pid or 0) if starter is not None else 0)
        gpu = {"peak_gpu_memory_gb": held[:, 1].max() / 1e9} if held[:, 1].any() else {}
        return {"peak_memory_gb": float(memory) / 1e9, **gpu}
