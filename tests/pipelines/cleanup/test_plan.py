"""What goes and what stays: random stores, and a collector that is killed anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import UserError
from components.models.catalog import LATEST
from pipelines.cleanup.groups import Plan
from pipelines.cleanup.plan import make
from pipelines.cleanup.policy import DAY, HOUR
from pipelines.cleanup.sweep import sweep

from .shelf import FRESH, OLD, POLICY, RECENT, Shelf, random_shelf

SEEDS = st.integers(0, 2**32 - 1)


class Killed(BaseException):
    """The process ends here."""


def delete_some(shelf: Shelf, plan: Plan, most: int | None = None) -> int:
    """Do what `plan` says, object by object, and be killed before the one after `most`; bytes told."""
    done = 0

    def delete(keys: list[str]) -> None:
        nonlocal done
        for key in keys:
            if done == most:
                raise Killed
            shelf.objects.pop(key, None)
            done += 1

    return sweep(plan, delete, lambda: None)


def keys(plan: Plan) -> set[str]:
    return {item.key for group in plan.goes for item in group.items}


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_exactly_what_is_dead_goes_and_every_object_has_its_reason(seed: int) -> None:
    shelf = random_shelf(Random(seed))
    before, everything = shelf.size(), set(shelf.objects)
    plan = make(shelf.contents(), POLICY)
    told = Counter(item.key for group in (*plan.goes, *plan.stays) for item in group.items)
    assert told.keys() == everything
    assert set(told.values()) <= {1}
    assert all(group.why for group in (*plan.goes, *plan.stays))
    assert keys(plan) == shelf.dead
    freed = delete_some(shelf, plan)
    assert set(shelf.objects) == everything - shelf.dead
    assert freed == before - shelf.size() == sum(group.bytes for group in plan.goes)
    assert make(shelf.contents(), POLICY).goes == []


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 40), max_size=6))
def test_killed_anywhere_it_loses_nothing_and_is_finished_by_the_next(seed: int, kills: list[int]) -> None:
    shelf = random_shelf(Random(seed))
    live = set(shelf.objects) - shelf.dead
    for most in kills:
        with contextlib.suppress(Killed):
            delete_some(shelf, make(shelf.contents(), POLICY), most)
        assert live <= set(shelf.objects)
    delete_some(shelf, make(shelf.contents(), POLICY))
    assert set(shelf.objects) == live


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 60))
def test_no_manifest_is_left_over_contents_that_are_gone(seed: int, most: int) -> None:
    """Killed anywhere: a tree that readers can see is whole."""
    shelf = random_shelf(Random(seed))
    whole = {key: shelf.get(key) for key in shelf.objects if key.endswith("/MANIFEST.json")}
    with contextlib.suppress(Killed):
        delete_some(shelf, make(shelf.contents(), POLICY), most)
    for key, data in whole.items():
        if key in shelf.objects:
            home = key.rpartition("/")[0]
            assert data is not None
            assert all(f"{home}/{entry['path']}" in shelf.objects for entry in json.loads(data)["files"])


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_a_longer_grace_or_more_versions_to_keep_deletes_nothing_more(seed: int, more: int) -> None:
    shelf = random_shelf(Random(seed))
    plain = keys(make(shelf.contents(), POLICY))
    for longer in (
        dataclasses.replace(POLICY, grace=POLICY.grace * 10 * more),
        dataclasses.replace(POLICY, keep=POLICY.keep + more),
        dataclasses.replace(POLICY, unpublished=POLICY.unpublished * 10),
    ):
        assert keys(make(shelf.contents(), longer)) <= plain


def test_the_generation_is_counted_up_only_for_what_cached_results_may_name() -> None:
    shelf = Shelf()
    shelf.tree("train/" + "a" * 16 + "/state/00000000-000100", RECENT, whole=False)
    shelf.put("features/x.npz", b"x", OLD)
    plan = make(shelf.contents(), POLICY)
    assert {group.what for group in plan.goes} == {"training state", "evaluation cache"}
    assert not plan.new_generation
    shelf.tree("train/" + "b" * 16 + "/00000000/step-000100", OLD)
    assert make(shelf.contents(), POLICY).new_generation


def test_a_lease_is_a_sign_of_life_and_one_that_is_renewed_protects_whatever_the_policy() -> None:
    run = "train/" + "a" * 16
    for age, running, goes in (
        (60.0, True, False),
        (2 * HOUR, True, False),
        (40 * DAY, True, True),
        (60.0, False, False),
    ):
        shelf = Shelf()
        shelf.tree(f"{run}/00000000/step-000100", OLD)
        shelf.put(f"leases/run-{'a' * 16}/0.json", json.dumps({"running": running}).encode(), age)
        assert bool(make(shelf.contents(), POLICY).new_generation) is goes, (age, running)
    # What a step is working with stays though nothing else does.
    none = dataclasses.replace(POLICY, grace=0.0, unpublished=0.0)
    for running in (True, False):
        shelf = Shelf()
        shelf.tree(f"{run}/00000000/step-000100", FRESH)
        shelf.put(f"leases/run-{'a' * 16}/0.json", json.dumps({"running": running}).encode(), 60.0)
        assert bool(make(shelf.contents(), none).goes) is not running


def test_a_kept_version_that_does_not_say_its_run_keeps_every_run() -> None:
    shelf = Shelf()
    shelf.tree("train/" + "a" * 16 + "/00000000/step-000100", OLD)
    shelf.tree("base-models/" + "b" * 16, OLD, made_by={"step": "train"})
    assert len(make(shelf.contents(), POLICY).goes) == 2
    shelf.tree("models/boards/20260101T000000Z-000000000000", OLD, made_by={"step": "another program"})
    plan = make(shelf.contents(), POLICY)
    assert plan.goes == []
    assert any("does not say which run" in group.why for group in plan.stays)


@pytest.mark.parametrize(
    "key",
    [
        "models/boards/20260101T000000Z-000000000000/MANIFEST.json",
        f"models/boards/{LATEST}",
        "train/aaaaaaaaaaaaaaaa/index.json",
        "base-models/aaaaaaaaaaaaaaaa/MANIFEST.json",
        "datasets/boards/versions/20260101T000000Z-000000000000.json",
    ],
)
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"schema": 99}', b"\xff"])
def test_what_cannot_be_read_stops_everything_and_is_named(key: str, data: bytes) -> None:
    shelf = Shelf()
    shelf.put("datasets/boards/DATASET.json", b'{"schema": 1}', OLD)
    shelf.put(key, data, OLD)
    with pytest.raises(UserError, match="nothing was deleted") as caught:
        shelf.contents()
    assert key in str(caught.value)


def test_a_record_that_vanishes_meanwhile_stops_everything() -> None:
    shelf = Shelf()
    shelf.put("train/aaaaaaaaaaaaaaaa/index.json", b"{}", OLD)
    shelf.get = lambda key: None  # type: ignore[method-assign]
    with pytest.raises(UserError, match="vanished"):
        shelf.contents()


def test_an_object_without_a_time_is_taken_for_new() -> None:
    shelf = Shelf()
    shelf.objects["train/aaaaaaaaaaaaaaaa/00000000/step-000100/x"] = b"x", float("inf")
    assert make(shelf.contents(), POLICY).goes == []
