"""A few disturbed steps: the short form of ``make faults``, which has all kinds of faults and the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.faults.harness import Harness

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("faults"), until="train")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("step", "kind", "outcomes"),
    [
        ("crop", "flip answer", {"went on"}),
        ("train", "SIGKILL", {"tried again"}),
        ("train", "flip request", {"went on"}),
        ("train", "full disk", {"refused"}),
    ],
)
def test_a_disturbed_step_ends_with_the_undisturbed_result(
    harness: Harness, step: str, kind: str, outcomes: set[str]
) -> None:
    run = harness.single(step, kind, Random(0))
    assert run is not None
    assert run.findings == []
    assert run.struck
    assert run.outcome in outcomes
