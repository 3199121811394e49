"""The study's table class by class: what counts as learnt, and how it is said."""

from __future__ import annotations

from dataclasses import asdict

from components.artifacts import CheckpointMetrics, Estimate, Metrics
from pipelines import class_table


def metrics(base: dict[str, float], trained: dict[str, tuple[float, float, float]]) -> Metrics:
    """Metrics of a base and of step 10, for classes named as in `base`; the floor is 0.01."""

    def data(value: float, low: float, high: float, alignment: float) -> dict[str, dict[str, object]]:
        return {
            "kd_lite0": asdict(Estimate(value, low, high, 25, 40)),
            "class_alignment": asdict(Estimate(alignment, None, None, 25, 40)),
        }

    first = {name: data(value, value - 0.02, value + 0.02, 0.1) for name, value in base.items()}
    last = {name: data(*values, 0.6) for name, values in trained.items()}
    mean: dict[str, dict[str, object]] = {}
    return Metrics(
        checkpoints=[
            asdict(CheckpointMetrics(0, "base", mean, first)),
            asdict(CheckpointMetrics(10, "step 10", mean, last)),
        ],
        floor={},
        floor_per_class={name: data(0.01, 0.0, 0.02, 0.9) for name in base},
        higher_is_better={"kd_lite0": False},
        absent={},
        extractor={},
        generation={},
        crops_digest="",
    )


def test_a_class_is_learnt_where_a_third_is_left_and_the_bound_is_below_the_base() -> None:
    measured = metrics(
        {"short": 0.310, "open": 0.310, "spur": 0.310},
        {"short": (0.109, 0.09, 0.13), "open": (0.112, 0.09, 0.13), "spur": (0.1, 0.05, 0.32)},
    )
    short, open_, spur = class_table.results(measured, step=10, seed=0)
    assert short.left < 1 / 3 < open_.left
    assert short.learnt
    assert not open_.learnt
    assert not spur.learnt, "its upper bound lies above the base's value"


def test_one_bad_seed_is_named() -> None:
    good = class_table.results(metrics({"short": 0.4}, {"short": (0.05, 0.03, 0.07)}), 10, seed=0)
    bad = class_table.results(metrics({"short": 0.4}, {"short": (0.3, 0.28, 0.32)}), 10, seed=7)
    floor = metrics({"short": 0.4}, {"short": (0.05, 0.03, 0.07)}).floor_per_class
    lines = class_table.text([*good, *bad], floor)
    assert lines[0].startswith("**On 0 of 1 classes, with every one of 2 seeds")
    assert "Not so for short (seed 7)." in lines
    assert (
        "| short | 0 | 400.0 [380.0, 420.0] | 50.0 [30.0, 70.0] (step 10) | 10.0 [0.0, 20.0] | 10% | 60% (real: 90%) |"
        in lines
    )
    assert any("74% (not learnt)" in line for line in lines)


def test_a_kept_base_is_not_learnt() -> None:
    [kept] = class_table.results(metrics({"short": 0.4}, {"short": (0.05, 0.03, 0.07)}), 0, seed=0)
    assert not kept.learnt
    lines = class_table.text([kept], {"short": {}})
    assert (
        "| short | 0 | 400.0 [380.0, 420.0] | 400.0 [380.0, 420.0] (the base is kept) | 10.0 [0.0, 20.0] | – | 10% |"
        in lines
    )


def test_a_base_at_the_floor_leaves_nothing_to_learn() -> None:
    [at_floor] = class_table.results(metrics({"short": 0.01}, {"short": (0.005, 0.0, 0.008)}), 10, seed=0)
    assert at_floor.left == float("inf")
    assert not at_floor.learnt
