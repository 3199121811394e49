"""``python -m tests.faults``: disturbed runs, and a table of what became of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from components.images import STEPS
from tests.faults.faults import KINDS
from tests.faults.harness import Harness, Run

OUTCOMES = ("went on", "tried again", "refused")


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--pipelines", type=int, default=22, help="runs of the whole pipeline")
    flags.add_argument("--only", default="", help="kinds of faults, with commas between them")
    flags.add_argument("--steps", default=",".join(STEPS), help="steps that run singly, with commas between them")
    given = flags.parse_args()
    kinds = [kind for kind in KINDS if not given.only or kind in given.only.split(",")]
    started, runs = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as temporary:
        harness = Harness(Path(temporary))
        print(f"undisturbed run: {time.monotonic() - started:.0f} s", flush=True)
        try:
            for step in filter(None, given.steps.split(",")):
                for kind in kinds:
                    run = harness.single(step, kind, Random(f"{given.seed}/{step}/{kind}"))
                    if run is not None:
                        runs.append(run)
                        _say(run)
            for number in range(given.pipelines):
                random = Random(f"{given.seed}/{number}")
                chosen = [kinds[number % len(kinds)], *random.sample(kinds, random.randint(0, 2))]
                run = harness.pipeline([*dict.fromkeys(chosen)], random)
                runs.append(run)
                _say(run)
        finally:
            harness.close()
    print(f"\n{table(runs)}\n\n{len(runs)} runs in {time.monotonic() - started:.0f} s, seed {given.seed}")
    return 1 if any(run.findings for run in runs) else 0


def _say(run: Run) -> None:
    what = "; ".join(f"{step} {fault.kind}" for step, fault in run.faults)
    statuses = " ".join(f"{step}:{status}" for step, status in run.statuses if status != 0)
    outcome = "WRONG" if run.findings else run.outcome if run.struck else "missed"
    print(f"{outcome:12} {run.seconds:5.1f} s  {run.what:12} {what}  {statuses}", flush=True)
    for finding in run.findings:
        print(f"    {finding}".replace("\n", "\n    "), flush=True)


def table(runs: list[Run]) -> str:
    """Faults × outcomes; a run with several faults counts for each of them."""
    rows = ["| fault | steps | pipelines | " + " | ".join(OUTCOMES) + " | missed | wrong |", "|---|" + "---|" * 7]
    for kind in KINDS:
        of_kind = [run for run in runs if kind in [fault.kind for _, fault in run.faults]]
        whole = sum(run.what == "pipeline" for run in of_kind)
        count = Counter("wrong" if run.findings else run.outcome if run.struck else "missed" for run in of_kind)
        cells = [len(of_kind) - whole, whole, *(count[outcome] for outcome in (*OUTCOMES, "missed", "wrong"))]
        rows.append(f"| {kind} | " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
