"""The course of a run, and when it is stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from components.train.history import Diverged, History, smooth


def course(losses: Sequence[float]) -> History:
    history = History()
    for loss in losses:
        history.add(torch.tensor(loss), torch.tensor(1.0), 1e-3)
    return history


def test_a_loss_that_explodes_is_told_with_its_numbers() -> None:
    history = course([0.1] * 40 + [3.0] * 20)
    with pytest.raises(Diverged, match=r"steps 41 to 60 is 3, before it was 0\.1.*learning_rate"):
        history.read()


def test_what_noise_levels_do_to_a_loss_is_no_explosion() -> None:
    # One crop a step: most losses are small, one in ten is large.
    random = np.random.default_rng(0)
    for _ in range(20):
        history = course(random.choice([0.02, 0.05, 0.9], 400, p=[0.5, 0.4, 0.1]).tolist())
        history.read()
        assert len(history.losses) == 400


def test_the_first_loss_that_is_no_number_is_named_and_kept() -> None:
    history = course([0.1, 0.2, float("nan"), 0.1])
    with pytest.raises(Diverged, match="at step 3 is nan"):
        history.read()
    assert history.losses[:2] == pytest.approx([0.1, 0.2])


def test_data_is_what_has_been_read_and_goes_on() -> None:
    history = course([0.1, 0.2])
    history.read()
    history.add(torch.tensor(0.3), torch.tensor(2.0), 1e-4)
    data = history.data()
    assert [len(values) for values in data.values()] == [2, 2, 2]
    again = History.of(data)
    again.add(torch.tensor(0.3), torch.tensor(2.0), 1e-4)
    for one in (history, again):
        one.read()
    assert again.data() == history.data()


def test_the_moving_average_begins_at_the_first_value_and_keeps_a_constant() -> None:
    assert smooth([2.0] * 5).tolist() == pytest.approx([2.0] * 5)
    assert smooth([1.0, 2.0])[1] == pytest.approx((0.95 * 1 + 2) / 1.95)
