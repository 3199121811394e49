"""Deleting what a plan says, so that it can be stopped anywhere.

Only what goes is ever touched, so that what is left after half of it is what another clean-up finds and finishes. Of
each group the references go first: nobody is led to contents that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipelines.cleanup.groups import Plan

_AT_ONCE = 1000


def batches(plan: Plan) -> Iterator[list[str]]:
    """Keys in the order in which they go, at most a thousand at once."""
    for group in plan.goes:
        references = group.references
        first = set(references)
        for keys in (references, [item.key for item in group.items if item.key not in first]):
            for start in range(0, len(keys), _AT_ONCE):
                yield keys[start : start + _AT_ONCE]


def sweep(plan: Plan, delete: Callable[[list[str]], None], check: Callable[[], None]) -> int:
    """Delete everything that goes.

    Args:
        delete: deletes objects; absent ones are no error.
        check: called before each deletion; raises where it must not go on.

    Returns:
        Bytes of what was deleted, by the listing.
    """
    freed = 0
    sizes = {item.key: item.bytes for group in plan.goes for item in group.items}
    for keys in batches(plan):
        check()
        delete(keys)
        freed += sum(sizes[key] for key in keys)
    return freed
