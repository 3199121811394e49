"""What goes and what stays, and why: mark and sweep over a store's contents, as a function without side effects.

Roots are the versions of models that are kept (the latest and the newest of each name), the versions of data sets (all
of them), and whatever is being worked on or was until lately. What they refer to stays. Of the rest, only what this
program is known to have written goes; what lies elsewhere in the store is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from components import leases
from components.models.catalog import LATEST
from components.progress import duration
from components.storage import MANIFEST, VERSION
from pipelines.cleanup.contents import Contents, Item
from pipelines.cleanup.groups import Plan
from pipelines.cleanup.policy import DAY, Policy
from pipelines.cleanup.roots import Roots, roots_of, under_way
from pipelines.cleanup.runs import plan_run

_TRAINS_BASE = re.compile(r"[0-9a-f]{16}")
_UNTOUCHED = {
    "GENERATION": "the store's own",
    "class-images": "images of prior preservation, for all runs with the same prompt",
    "crop": "pages and findings of the crop step",
    "snapshots": "what snapshot has seen",
}


def make(contents: Contents, policy: Policy) -> Plan:
    """Decide on every object of `contents`."""
    plan, roots = Plan(), roots_of(contents, policy)
    by_place = _by_place(contents)
    # Runs before the versions that name them: killed in between, the next clean-up still knows whose they were.
    staying = [
        fingerprint
        for fingerprint, items in by_place.pop("train", {}).items()
        if plan_run(plan, contents, policy, roots, fingerprint, items)
    ]
    _bases(plan, contents, policy, roots, staying, by_place.pop("base-models", {}))
    for name, items in by_place.pop("models", {}).items():
        _model(plan, contents, policy, roots, name, items)
    for name, items in by_place.pop("datasets", {}).items():
        _dataset(plan, contents, policy, name, items)
    for name, items in by_place.pop("features", {}).items():
        _features(plan, contents, policy, name, items)
    for name, items in by_place.pop(leases.PREFIX, {}).items():
        _leases(plan, contents, policy, name, items)
    for top, rest in by_place.items():
        why = _UNTOUCHED.get(top, "not known to clean-up")
        plan.stay("other objects", top, why, (item for items in rest.values() for item in items))
    return plan


def _by_place(contents: Contents) -> dict[str, dict[str, list[Item]]]:
    """First part of the key → second part ("" where it is an object) → objects."""
    found: dict[str, dict[str, list[Item]]] = {}
    for key, item in contents.items.items():
        top, _, rest = key.partition("/")
        second, slash, _ = rest.partition("/")
        found.setdefault(top, {}).setdefault(second if slash else "", []).append(item)
    return found


def _model(plan: Plan, contents: Contents, policy: Policy, roots: Roots, name: str, items: list[Item]) -> None:
    trees: dict[str, list[Item]] = {}
    for item in items:
        version, slash, _ = item.key.removeprefix(f"models/{name}/").partition("/")
        trees.setdefault(version if slash and VERSION.fullmatch(version) else "", []).append(item)
    for version, tree in trees.items():
        place = f"models/{name}/{version}".rstrip("/")
        if not version:
            pointer = f"{place}/{LATEST}"
            plan.stay("latest.json", place, "names the latest version", (i for i in tree if i.key == pointer))
            plan.stay("other objects", place, "not known to clean-up", (i for i in tree if i.key != pointer))
        elif (name, version) in roots.kept:
            plan.stay("published version", place, roots.kept[name, version], tree)
        elif version in contents.versions.get(name, {}):
            why = f"older than the {policy.keep} newest versions, and not the latest"
            plan.go("published version", place, why, tree, cached=True)
        else:
            _upload(plan, contents, policy, place, leases.model_scope(name), tree)


def _upload(plan: Plan, contents: Contents, policy: Policy, place: str, scope: str, tree: list[Item]) -> None:
    """A tree without a manifest, whose writer is not known."""
    young = contents.quiet(scope, tree) < DAY
    if young and any(running for _, running in contents.leases.values()):
        plan.stay("unfinished upload", place, "a step is running, whose it may be", tree)
    elif why := under_way(contents, policy, scope, tree):
        plan.stay("unfinished upload", place, why, tree)
    else:
        plan.go("unfinished upload", place, "no manifest: it ended half-way, and nobody can read it", tree)


def _bases(
    plan: Plan, contents: Contents, policy: Policy, roots: Roots, runs: list[str], found: Mapping[str, list[Item]]
) -> None:
    """Base models: of kept versions and of runs that stay."""
    used = set(roots.bases)
    for fingerprint in runs:
        if (index := contents.indexes.get(fingerprint)) is not None:
            used.add(contents.place_of(index.base_uri) or "")
    open_ended = roots.opaque or next((f"train/{run}" for run in runs if run not in contents.indexes), "")
    for scope, (last, running) in contents.leases.items():
        if scope.startswith(leases.run_scope("")) and (running or contents.now - last < policy.grace):
            open_ended = open_ended or scope
    if "" in used:
        open_ended = open_ended or "a run whose base model lies elsewhere"
    for name, items in found.items():
        place = f"base-models/{name}".rstrip("/")
        if place in used:
            plan.stay("base model", place, "a version or run that stays was made from it", items)
        elif place not in contents.bases:
            if _TRAINS_BASE.fullmatch(name) and all(item.key != f"{place}/{MANIFEST}" for item in items):
                _upload(plan, contents, policy, place, place, items)
            else:
                plan.stay("base model", place, "not put there by train", items)
        elif open_ended:
            plan.stay("base model", place, f"{open_ended} may need it: which one it needs is not known", items)
        elif why := under_way(contents, policy, place, items):
            plan.stay("base model", place, why, items)
        else:
            plan.go("base model", place, "no version or run that stays was made from it", items, cached=True)


def _dataset(plan: Plan, contents: Contents, policy: Policy, name: str, items: list[Item]) -> None:
    place, used = f"datasets/{name}".rstrip("/"), contents.datasets.get(name)
    if used is None:
        plan.stay("data set", place, "not pushed: files of your own", items)
        return
    held = under_way(contents, policy, leases.dataset_scope(name), ())
    loose = [item for item in items if item.key.startswith(f"{place}/objects/") and item.key not in used]
    old = [item for item in loose if not held and contents.now - item.modified >= policy.grace]
    gone, apart = {item.key for item in old}, {item.key for item in loose}
    plan.go("contents of a data set", place, "in no version: a push ended half-way", old)
    plan.stay("data set", place, "all pushed versions stay", (item for item in items if item.key not in apart))
    why = held or f"in no version, and sent less than the {duration(policy.grace)} of --grace ago"
    plan.stay("contents of a data set", place, why, (item for item in loose if item.key not in gone))


def _features(plan: Plan, contents: Contents, policy: Policy, name: str, items: list[Item]) -> None:
    place, spare = f"features/{name}".rstrip("/"), max(policy.unpublished, policy.grace)
    old = [item for item in items if contents.now - item.modified >= spare]
    young = [item for item in items if contents.now - item.modified < spare]
    plan.go("evaluation cache", place, f"older than {duration(spare)}: computed again where needed", old)
    plan.stay("evaluation cache", place, f"younger than {duration(spare)}", young)


def _leases(plan: Plan, contents: Contents, policy: Policy, name: str, items: list[Item]) -> None:
    place, spare = f"{leases.PREFIX}/{name}".rstrip("/"), max(policy.grace, leases.STALE)
    old = [item for item in items if item.key.count("/") == 2 and contents.now - item.modified >= spare]
    gone = {item.key for item in old}
    plan.go("leases", place, "of steps that ended", old)
    why = "of steps that run, or ended lately"
    plan.stay("leases", place, why, (item for item in items if item.key not in gone))
