"""The rule: which checkpoint is chosen, and what the reasons say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from components.artifacts import PUBLISHED, CheckpointMetrics, Metrics
from components.errors import SettingsError, UserError
from components.select_best.choose import NothingToChoose, choose
from components.select_best.config import SelectBestConfig
from components.settings import decode

Value = float | tuple[float, float, float]


def estimate(value: Value) -> dict[str, Any]:
    number, low, high = value if isinstance(value, tuple) else (value, None, None)
    return {"value": number, "low": low, "high": high, "n": 25, "m": 20}


def metrics(rows: dict[int, dict[str, Value]], **changes: Any) -> Metrics:
    """Step → metric → value, or value with interval."""
    checkpoints = [
        CheckpointMetrics(step, f"step {step}" if step else "base", {k: estimate(v) for k, v in values.items()}, {})
        for step, values in rows.items()
    ]
    data: dict[str, Any] = {
        "checkpoints": [vars(row) for row in checkpoints],
        "floor": {"kd_lite0": estimate((0.002, -0.005, 0.009))},
        "floor_per_class": {},
        "higher_is_better": {"kd_lite0": False, "fd_lite0": False, "memorised": False, "class_alignment": True},
        "absent": {"fid": "needs Inception weights"},
        "extractor": {},
        "generation": {},
        "crops_digest": "d",
        "dataset": {"dataset": "/boards", "dataset_revision": "r" * 64, "dataset_version": "v1"},
    }
    return Metrics(**{**data, **changes})


def kd(*values: Value) -> Metrics:
    """Base, step 100, step 200 …"""
    return metrics({100 * i: {"kd_lite0": value} for i, value in enumerate(values)})


#: The base at 80, a good one at 30, a better one at 20 whose interval reaches the good one.
USUAL = ((0.080, 0.06, 0.10), (0.030, 0.015, 0.045), (0.020, 0.005, 0.035), (0.025, 0.01, 0.04))


def test_the_best_value_wins_where_it_is_surely_better_than_the_base() -> None:
    choice = choose(kd(*USUAL), SelectBestConfig())
    assert (choice.row.step, choice.mode, choice.improved) == (200, "min", True)
    assert choice.reasons == [
        "Step 200 is the best checkpoint: kd_lite0 × 10³ 20.0 [5.0, 35.0], against 80.0 [60.0, 100.0] of the "
        "untrained base. Its whole 95 % interval is below the base's value.",
        "The runner-up is step 300 with 25.0 [10.0, 40.0].",
    ]
    assert choice.runner_up is not None
    assert choice.runner_up.step == 300
    assert choice.rejected == {
        0: "step 200 is surely better",
        100: "30.0 [15.0, 45.0] against 20.0 [5.0, 35.0] of step 200",
        300: "25.0 [10.0, 40.0] against 20.0 [5.0, 35.0] of step 200",
    }


def test_a_tie_goes_to_the_earliest_within_the_best_one_s_interval() -> None:
    choice = choose(kd(*USUAL), SelectBestConfig(tie="earliest"))
    assert choice.row.step == 100
    assert "Step 200 is nominally better (20.0 [5.0, 35.0])" in choice.reasons[1]
    sharper = kd(USUAL[0], USUAL[1], (0.020, 0.015, 0.025), USUAL[3])
    assert choose(sharper, SelectBestConfig(tie="earliest")).row.step == 200


def paired(measured: Metrics, *differences: tuple[int, int, Value]) -> Metrics:
    """With the paired difference of each two steps."""
    found = [
        {"metric": "kd_lite0", "a": a, "b": b, **{k: estimate(value)[k] for k in ("value", "low", "high")}}
        for a, b, value in differences
    ]
    return dataclasses.replace(measured, differences=found)


def test_a_tie_is_decided_by_the_paired_difference_where_there_is_one() -> None:
    """Step 100 lies within the best one's interval, but with the same noise it is surely worse; 300 is not."""
    measured = kd(*USUAL, (0.021, 0.006, 0.036))
    measured = paired(
        measured,
        (200, 100, (-0.01, -0.015, -0.005)), (300, 200, (0.005, -0.001, 0.011)), (400, 200, (0.001, -0.002, 0.004)),
    )  # fmt: skip
    assert choose(measured, SelectBestConfig(tie="earliest")).row.step == 200
    choice = choose(measured, SelectBestConfig())
    assert "which is surely another value (paired difference 10.0 [5.0, 15.0])" in choice.rejected[100]
    assert "not distinguishable (paired difference 5.0 [−1.0, 11.0])" in choice.rejected[300]
    assert choice.reasons[1] == "The runner-up is step 400 with 21.0 [6.0, 36.0]; paired difference −1.0 [−4.0, 2.0]."


@pytest.mark.parametrize(
    ("difference", "verdict", "said"),
    [
        ((-0.03, -0.05, -0.01), "better", "is better than the model published last (published v1)"),
        ((0.03, 0.01, 0.05), "worse", "is worse than"),
        ((0.01, -0.01, 0.03), "not distinguishable", "cannot be told from"),
        (None, "not distinguishable", "cannot be told from"),  # by overlapping intervals
    ],
)
def test_the_choice_is_held_against_the_model_published_last(difference: Value | None, verdict: str, said: str) -> None:
    row = CheckpointMetrics(PUBLISHED, "published v1", {"kd_lite0": estimate((0.03, 0.01, 0.05))}, {})
    measured = dataclasses.replace(kd(*USUAL), incumbent=vars(row))
    if difference is not None:
        measured = paired(measured, (200, PUBLISHED, difference))
    choice = choose(measured, SelectBestConfig())
    assert choice.published is not None
    assert choice.published.verdict == verdict
    assert said in choice.reasons[2]
    assert "20.0 [5.0, 35.0] against 30.0 [10.0, 50.0]" in choice.reasons[2]
    assert choose(kd(*USUAL), SelectBestConfig()).published is None


def test_intervals_that_are_apart_are_told_apart_without_a_paired_difference() -> None:
    row = CheckpointMetrics(PUBLISHED, "published v1", {"kd_lite0": estimate((0.5, 0.4, 0.6))}, {})
    choice = choose(dataclasses.replace(kd(*USUAL), incumbent=vars(row)), SelectBestConfig())
    assert choice.published is not None
    assert choice.published.verdict == "better"


def test_equal_values_go_to_the_earlier_step() -> None:
    assert choose(kd(USUAL[0], USUAL[2], USUAL[2]), SelectBestConfig()).row.step == 100


def test_the_base_is_kept_where_nothing_is_surely_better() -> None:
    choice = choose(kd((0.080, 0.06, 0.10), (0.070, 0.05, 0.09), (0.075, 0.06, 0.09)), SelectBestConfig())
    assert (choice.row.step, choice.improved) == (0, False)
    assert choice.reasons[0].startswith("The untrained base (step 0) is kept: kd_lite0 × 10³ 80.0 [60.0, 100.0].")
    assert "the nearest is step 100 with 70.0 [50.0, 90.0]" in choice.reasons[0]


def test_without_the_base_the_best_trained_one_is_taken_and_called_what_it_is() -> None:
    measured = kd((0.080, 0.06, 0.10), (0.090, 0.07, 0.11), (0.075, 0.06, 0.09))
    choice = choose(measured, SelectBestConfig(allow_base=False))
    assert (choice.row.step, choice.improved) == (200, False)
    assert "not surely better than the base" in choice.reasons[0]


def test_an_unsure_best_value_gives_way_to_a_sure_one() -> None:
    measured = kd((0.080, 0.06, 0.10), (0.030, -0.03, 0.09), (0.040, 0.02, 0.06))
    assert choose(measured, SelectBestConfig()).row.step == 200


def test_a_metric_without_interval_is_taken_at_its_value() -> None:
    measured = metrics({0: {"fd_lite0": 200.0}, 100: {"fd_lite0": 120.0}, 200: {"fd_lite0": 90.5}})
    choice = choose(measured, SelectBestConfig(metric="fd_lite0"))
    assert (choice.row.step, choice.improved) == (200, True)
    assert "fd_lite0 90.5, against 200.0" in choice.reasons[0]
    assert "has no interval" in choice.reasons[0]


def test_higher_is_better_where_the_metric_says_so() -> None:
    rows: dict[int, dict[str, Value]] = {
        0: {"class_alignment": (0.2, 0.1, 0.3)},
        100: {"class_alignment": (0.9, 0.8, 0.95)},
        200: {"class_alignment": (0.7, 0.6, 0.8)},
    }
    choice = choose(metrics(rows), SelectBestConfig(metric="class_alignment"))
    assert (choice.row.step, choice.mode, choice.improved) == (100, "max", True)
    assert "class_alignment 90 % [80, 95]" in choice.reasons[0]
    assert "above the base's value" in choice.reasons[0]


def test_a_mode_against_the_metric_is_obeyed_with_a_warning() -> None:
    choice = choose(kd((0.02, 0.01, 0.03), *USUAL), SelectBestConfig(mode="max"))
    assert choice.row.step == 100  # the base of USUAL, at 80
    assert choice.reasons[-1].startswith("Warning: mode max takes the largest kd_lite0, which is its bad end")
    assert choose(kd(*USUAL), SelectBestConfig(mode="min")).reasons == choose(kd(*USUAL), SelectBestConfig()).reasons


def test_checkpoints_that_break_a_constraint_are_left_out() -> None:
    rows: dict[int, dict[str, Value]] = {
        100 * i: {"kd_lite0": value, "memorised": share}
        for i, (value, share) in enumerate(zip(USUAL, (0.0, 0.02, 0.30, 0.10)))
    }
    choice = choose(metrics(rows), SelectBestConfig(constraints={"memorised": "<=0.1"}))
    assert choice.row.step == 300
    assert choice.rejected[200] == "memorised is 30 %, and has to be <= 10 %"
    assert "Step 200 was left out: memorised is 30 %, and has to be <= 10 %." in choice.reasons
    kept = choose(metrics(rows), SelectBestConfig(constraints={"memorised": "<0.01"}))
    assert (kept.row.step, kept.runner_up) == (0, None)
    with pytest.raises(NothingToChoose, match=r"no checkpoint is left .*step 100: memorised is 2 %.*constraints") as no:
        choose(metrics(rows), SelectBestConfig(constraints={"memorised": "<0.01"}, allow_base=False))
    assert set(no.value.rejected) == {0, 100, 200, 300}


def test_a_base_that_breaks_a_constraint_does_not_stay() -> None:
    rows: dict[int, dict[str, Value]] = {
        0: {"kd_lite0": (0.08, 0.06, 0.10), "class_alignment": 0.2},
        100: {"kd_lite0": (0.075, 0.05, 0.10), "class_alignment": 0.6},
    }
    choice = choose(metrics(rows), SelectBestConfig(constraints={"class_alignment": ">= 0.5"}))
    assert (choice.row.step, choice.improved, choice.runner_up) == (100, False, None)
    assert "not surely better than the base, which does not keep to the constraints" in choice.reasons[0]
    assert choice.rejected[0] == "class_alignment is 20 %, and has to be >= 50 %"
    with pytest.raises(NothingToChoose, match="base: class_alignment is 20 %"):
        choose(metrics(rows), SelectBestConfig(constraints={"class_alignment": ">0.6"}))


def test_a_constraint_that_cannot_be_read_or_was_not_measured() -> None:
    for text in ("0.05", "<", "=0.1", "<0.1%", "< nan"):
        with pytest.raises(SettingsError, match=r"select_best\.constraints: a bound is"):
            decode(SelectBestConfig, {"constraints": {"memorised": text}}, "select_best")
    with pytest.raises(UserError) as caught:
        choose(kd(*USUAL), SelectBestConfig(constraints={"fid": "<10", "memorized": "<0.1"}))
    assert "select_best.constraints.fid: fid was not measured: needs Inception weights" in str(caught.value)
    assert "select_best.constraints.memorized: there is no metric 'memorized'" in str(caught.value)


def test_too_few_images_decide_nothing() -> None:
    with pytest.raises(NothingToChoose, match="kd_lite0 rests on 20 real images, fewer than min_images = 22"):
        choose(kd(*USUAL), SelectBestConfig(min_images=22))
    assert choose(kd(*USUAL), SelectBestConfig(min_images=20)).row.step == 200


def test_what_is_no_number_is_left_out() -> None:
    choice = choose(kd(*USUAL, float("nan")), SelectBestConfig())
    assert choice.rejected[400] == "kd_lite0 is nan, which is no number"


def test_a_diverged_checkpoint_is_left_out() -> None:
    measured = metrics({0: {"kd_lite0": USUAL[0]}, 100: {"kd_lite0": USUAL[1]}, 200: {}})
    choice = choose(measured, SelectBestConfig())
    assert choice.row.step == 100
    assert choice.rejected[200] == "kd_lite0 could not be measured"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("fid", "fid was not measured: needs Inception weights; measured: kd_lite0"),
        ("kid_lite", "there is no metric 'kid_lite'; measured: kd_lite0"),
    ],
)
def test_a_metric_that_is_not_there(metric: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        choose(kd(*USUAL), SelectBestConfig(metric=metric))
    assert said in str(caught.value)


def test_a_metric_without_a_good_end_needs_a_mode() -> None:
    measured = metrics({0: {"nearest_train": 0.3}, 100: {"nearest_train": 0.1}})
    with pytest.raises(UserError, match="neither end of nearest_train is good"):
        choose(measured, SelectBestConfig(metric="nearest_train"))
    assert choose(measured, SelectBestConfig(metric="nearest_train", mode="min")).row.step == 100


@pytest.mark.parametrize("value", [1.0, (1.0, 1.0, 1.0)])
def test_a_metric_that_is_the_same_everywhere_is_refused(value: Value) -> None:
    """As the inception score that read 1.0 ± 0 at every step."""
    measured = metrics({step: {"fd_lite0": value} for step in (0, 100, 200)})
    with pytest.raises(UserError, match="fd_lite0 is 1 at every checkpoint, so it cannot choose one"):
        choose(measured, SelectBestConfig(metric="fd_lite0"))


def test_without_a_measured_base_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(UserError, match="no untrained base"):
        choose(metrics({100: {"kd_lite0": 0.1}, 200: {"kd_lite0": 0.2}}), SelectBestConfig())


def test_only_the_base_was_measured() -> None:
    choice = choose(metrics({0: {"kd_lite0": USUAL[0]}}), SelectBestConfig())
    assert choice.row.step == 0
    assert "No trained checkpoint is a candidate" in choice.reasons[0]
