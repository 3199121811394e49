"""The ``gc`` command: what of the store goes and what stays and why, and doing it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.progress import size
from pipelines import stores
from pipelines.cleanup.policy import DAY, HOUR, Policy
from pipelines.table import columns

if TYPE_CHECKING:
    from components.storage import ObjectInfo, Store
    from components.storage.parts import Upload
    from pipelines.cleanup.contents import Contents, Item
    from pipelines.cleanup.groups import Group, Plan


def add_parser(commands: Any) -> None:
    """Add the command to the command line's."""
    made = commands.add_parser(
        "gc",
        parents=[stores.flags()],
        allow_abbrev=False,
        help="delete from the store what nothing refers to any more",
        description="Delete training state of finished runs, checkpoints that were not chosen, uploads that ended "
        "half-way, old versions of models and evaluation caches. What a kept version, a data set's version or a run "
        "under way refers to stays. Safe beside runs; killed, the same command goes on with the rest.",
    )
    made.add_argument("--dry-run", action="store_true", help="say what would go and why the rest stays; delete nothing")
    made.add_argument(
        "--keep", type=int, default=Policy.keep, metavar="N",
        help=f"newest versions of each model that stay, beside the latest ({Policy.keep})",
    )  # fmt: skip
    made.add_argument(
        "--grace", type=float, metavar="HOURS",
        help="a run whose last sign of life is younger is under way: its next step may be waiting (24; 0 for the "
        "embedded store, which no run can be using meanwhile)",
    )  # fmt: skip
    made.add_argument(
        "--unpublished", type=float, default=Policy.unpublished / DAY, metavar="DAYS",
        help="how long a run stays that nothing was published of, to be gone on with "
        f"({Policy.unpublished / DAY:.0f})",
    )  # fmt: skip


def gc(flags: argparse.Namespace) -> int:
    """Do what the flags ask for and say what was done."""
    from components.leases import cleaning
    from components.storage.parts import give_up
    from pipelines.cleanup.plan import make
    from pipelines.cleanup.sweep import sweep

    policy = _policy(flags)
    with stores.opened(flags, "a run makes one") as store:
        if flags.dry_run:
            contents = _contents(store, time.time())
            _say(make(contents, policy), dry=True)
            _say_uploads(_left_over(store, contents, policy), dry=True)
            return 0
        with cleaning(store) as mark:
            contents = _contents(store, mark.now())
            plan, uploads = make(contents, policy), _left_over(store, contents, policy)
            _say(plan, dry=False)
            _say_uploads(uploads, dry=False)
            if plan.new_generation:
                # Before anything goes: from here on nobody is answered from the cache with what is going.
                print(f"generation  {store.next_generation()}", flush=True)
            freed = sweep(plan, store.delete, mark.check)
            for upload in uploads:
                mark.check()
                give_up(store, upload)
    print(f"deleted {sum(len(group.items) for group in plan.goes)} objects, {size(freed)} ({freed} bytes)", flush=True)
    return 0


def _policy(flags: argparse.Namespace) -> Policy:
    grace = flags.grace if flags.grace is not None else Policy.grace / HOUR if flags.store is not None else 0.0
    problems = []
    if flags.keep < 1:
        problems.append(f"--keep {flags.keep}: at least 1 version stays")
    # Written so that NaN fails.
    if not grace >= 0:
        problems.append(f"--grace {grace}: give hours, 0 or more")
    if not flags.unpublished >= 0:
        problems.append(f"--unpublished {flags.unpublished}: give days, 0 or more")
    if problems:
        raise UserError(*problems)
    return Policy(flags.keep, grace * HOUR, flags.unpublished * DAY)


def _contents(store: Store, now: float) -> Contents:
    """What the store holds; leases first, so that what ends meanwhile has left its work for the listing."""
    from components.leases import PREFIX
    from pipelines.cleanup.contents import read, read_leases

    held = read_leases(_items(store.list(f"{PREFIX}/")), store.get_bytes, now)
    return read(store.uri, _items(store.list()), store.get_bytes, now, held)


def _left_over(store: Store, contents: Contents, policy: Policy) -> list[Upload]:
    """Uploads to give up; none where the store does not tell, or not to whoever cleans up."""
    from components.progress import log
    from components.storage.connection import Unsupported
    from components.storage.parts import unfinished
    from pipelines.cleanup.uploads import left_over

    try:
        return left_over(unfinished(store), contents, policy)
    except (UserError, Unsupported) as error:
        log(f"uploads in parts that were never finished are not looked for: {error}")
        return []


def _say_uploads(uploads: list[Upload], dry: bool) -> None:
    if uploads:
        print(f"{'would be given up' if dry else 'given up'}: {len(uploads)} uploads in parts, never finished")
        print("\n".join(f"  {line}" for line in columns([(u.key, f"begun {u.begun:%Y-%m-%d %H:%M}") for u in uploads])))


def _items(listing: Iterable[ObjectInfo]) -> list[Item]:
    from pipelines.cleanup.contents import Item

    # An object without a time is new, for all that is known.
    return [
        Item(info.key, info.bytes, info.last_modified.timestamp() if info.last_modified else float("inf"))
        for info in listing
    ]


def _say(plan: Plan, dry: bool) -> None:
    for title, groups in (("would go" if dry else "goes", plan.goes), ("stays", plan.stays)):
        total = sum(group.bytes for group in groups)
        print(f"{title}: {size(total)} ({total} bytes), {sum(len(group.items) for group in groups)} objects")
        print("\n".join(f"  {line}" for line in columns([_row(group) for group in groups])) or "  nothing", flush=True)


def _row(group: Group) -> tuple[str, str, str, str]:
    return size(group.bytes).rjust(8), group.what, group.place, group.why
