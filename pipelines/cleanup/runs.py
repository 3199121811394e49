"""What goes and what stays of one training run, ``train/<fingerprint>``."""

from __future__ import annotations

import re
from collections.abc import Callable

from components import leases
from components.progress import duration
from components.storage import MANIFEST
from pipelines.cleanup.contents import Contents, Item
from pipelines.cleanup.groups import Plan
from pipelines.cleanup.policy import Policy
from pipelines.cleanup.roots import Roots, under_way

_CHECKPOINT = re.compile(r"([0-9a-f]{8}/step-\d+)/")
_STATE = re.compile(r"(state/[^/]+)/")


class _Parts:
    """A run's objects by what they are."""

    def __init__(self, place: str, items: list[Item]) -> None:
        self.index: list[Item] = []
        self.reports: list[Item] = []
        self.cache: list[Item] = []
        self.unknown: list[Item] = []
        self.checkpoints: dict[str, list[Item]] = {}  #: place → objects
        self.states: dict[str, list[Item]] = {}
        for item in items:
            rest = item.key.removeprefix(f"{place}/")
            if match := _CHECKPOINT.match(rest):
                self.checkpoints.setdefault(f"{place}/{match[1]}", []).append(item)
            elif match := _STATE.match(rest):
                self.states.setdefault(f"{place}/{match[1]}", []).append(item)
            elif rest == "index.json":
                self.index.append(item)
            elif rest.startswith("reports/"):
                self.reports.append(item)
            elif rest.startswith("evaluating/"):
                self.cache.append(item)
            else:
                self.unknown.append(item)


def plan_run(plan: Plan, contents: Contents, policy: Policy, roots: Roots, fingerprint: str, items: list[Item]) -> bool:
    """Decide on every object of a run; whether the run itself stays."""
    place, scope = f"train/{fingerprint}".rstrip("/"), leases.run_scope(fingerprint)
    why = under_way(contents, policy, scope, items)
    if not fingerprint:
        why = "not known to clean-up"
    elif not why and roots.opaque:
        why = f"{roots.opaque} does not say which run it was made from"
    if why:
        plan.stay("training run", place, why, items)
        return True
    parts = _Parts(place, items)
    plan.stay("other objects", place, "not known to clean-up", parts.unknown)
    quiet = contents.quiet(scope, items)
    if fingerprint in roots.runs:
        _published(plan, parts, place, roots, roots.runs[fingerprint])
        return True
    if fingerprint not in roots.spent and quiet < max(policy.unpublished, policy.grace):
        _unpublished(plan, contents, parts, place, roots, fingerprint, f"{duration(quiet)} without a sign of life")
        return True
    version = roots.spent.get(fingerprint)
    why = f"it made {version}, which goes" if version else f"nothing published, and quiet for {duration(quiet)}"
    chosen = [item for tree, found in parts.checkpoints.items() if tree in roots.checkpoints for item in found]
    apart = {item.key for item in (*chosen, *parts.unknown)}
    plan.stay("checkpoints", place, "a kept version was made from them", chosen)
    # The index first: without it, what is left of the run is one that has not finished.
    plan.go("training run", place, why, (i for i in items if i.key not in apart), cached=True)
    return bool(chosen)


def _published(plan: Plan, parts: _Parts, place: str, roots: Roots, version: str) -> None:
    """A run of which a kept version was made: its chosen checkpoint, index and pages stay."""
    plan.stay("training run", place, f"index and pages: {version} was made from it", parts.index + parts.reports)
    _trees(plan, parts.states, place, "training state", lambda tree: False, "", "the run has finished")
    _trees(
        plan, parts.checkpoints, place, "checkpoints", lambda tree: tree in roots.checkpoints,
        f"{version} was made from it", "not chosen",
    )  # fmt: skip
    plan.go("evaluation cache", place, "the run has been evaluated", parts.cache)


def _unpublished(
    plan: Plan, contents: Contents, parts: _Parts, place: str, roots: Roots, fingerprint: str, quiet: str
) -> None:
    """A run that may still be gone on with: what the next step, or the next attempt, takes up stays."""
    index = contents.indexes.get(fingerprint)
    after = "finished, nothing published yet" if index is not None else "not finished"
    why = f"{after}, {quiet}: less than --unpublished"
    plan.stay("training run", place, f"{why} (index, pages, caches)", parts.index + parts.reports + parts.cache)
    if index is not None:
        listed = {contents.place_of(ref.uri) for ref in index.refs()} | roots.checkpoints
        _trees(plan, parts.states, place, "training state", lambda tree: False, "", "the run has finished")
        _trees(
            plan, parts.checkpoints, place, "checkpoints", lambda tree: tree in listed, why,
            "of an attempt that did not win",
        )  # fmt: skip
        return
    for what, trees in (("training state", parts.states), ("checkpoints", parts.checkpoints)):
        committed = {tree for tree, found in trees.items() if any(i.key == f"{tree}/{MANIFEST}" for i in found)}
        half = "no manifest: an upload that ended half-way"
        _trees(plan, trees, place, what, committed.__contains__, why, half, cached=False)


def _trees(
    plan: Plan,
    trees: dict[str, list[Item]],
    place: str,
    what: str,
    stays: Callable[[str], bool],
    stay: str,
    go: str,
    cached: bool | None = None,
) -> None:
    """Trees of one kind: those for which `stays` says True stay, the others go."""
    kept = [item for tree, found in trees.items() if stays(tree) for item in found]
    gone = [item for tree, found in trees.items() if not stays(tree) for item in found]
    plan.stay(what, place, stay, kept)
    plan.go(what, place, go, gone, cached=what == "checkpoints" if cached is None else cached)
