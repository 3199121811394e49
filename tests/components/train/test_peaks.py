"""Peak memory of a run's processes, as the main one finds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.memory import own_peak
from components.train.peaks import Peaks

CPU = torch.device("cpu")


def test_memory_adds_up_and_a_gpus_is_the_largest(tmp_path: Path) -> None:
    main = Peaks(tmp_path, 0, CPU)
    assert main.numbers() == {"peak_memory_gb": pytest.approx(own_peak() / 1e9, rel=0.01)}
    np.array([3 * 10**9, 5 * 10**9], np.int64).tofile(tmp_path / "peaks-1")
    np.array([2 * 10**9, 7 * 10**9], np.int64).tofile(tmp_path / "peaks-2")
    found = main.numbers()
    assert found["peak_memory_gb"] == pytest.approx(5 + own_peak() / 1e9, rel=0.01)
    assert found["peak_gpu_memory_gb"] == 7


def test_what_another_process_notes_is_found(tmp_path: Path) -> None:
    main, other = Peaks(tmp_path, 0, CPU), Peaks(tmp_path, 1, CPU)
    alone = main.numbers()["peak_memory_gb"]
    other.note()
    assert main.numbers()["peak_memory_gb"] == pytest.approx(2 * alone, rel=0.01)
