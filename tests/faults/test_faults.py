"""A few disturbed steps and a disturbed pipeline: the short form of ``make faults``, which has all kinds of faults."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.faults.harness import Harness

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("step", "kind", "seed", "outcomes"),
    [
        ("crop", "flip answer", 0, {"went on"}),
        # A seed of which the moment is an exchange with the store: a time would be another one on busier cores.
        ("train", "SIGKILL", 1, {"tried again"}),
        ("train", "flip request", 0, {"went on"}),
        ("train", "full disk", 0, {"refused"}),
        ("evaluate", "memory", 0, {"refused"}),
    ],
)
def test_a_disturbed_step_ends_with_the_undisturbed_result(
    harness: Harness, step: str, kind: str, seed: int, outcomes: set[str]
) -> None:
    run = harness.single(step, kind, Random(seed))
    assert run is not None
    assert run.findings == []
    assert run.struck
    assert run.outcome in outcomes


def test_a_disturbed_pipeline_ends_with_the_undisturbed_models(harness: Harness) -> None:
    run = harness.pipeline(["SIGKILL", "flip answer"], Random(0))
    assert run.findings == []
    assert run.struck
    assert {step for step, _ in run.statuses} == set(harness.stages)
