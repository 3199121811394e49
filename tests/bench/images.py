"""How long a step's container takes from its start to the first line of the step's own log.

    make bench-images

Runs the pipeline in containers on the drawn boards with very few steps, and then again without kfp's cache, and reads
the times off the output as it comes. Not a test: the times are of the machine and of what else it does.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from pipelines.table import columns
from tests.conftest import ROOT
from tests.pipelines.test_end_to_end import FAST

_HEADER = re.compile(r"── (\w+) ─+$")


def first_lines(workdir: Path, images: Path | None) -> dict[str, float]:
    """Step → seconds from the order to start its container to its first line, of one run."""
    sets = [part for setting in FAST for part in ("--set", setting)]
    named = ["--images", str(images)] if images else []
    command = [sys.executable, "-m", "pipelines", "run", "--workdir", str(workdir), "--runner", "docker"]
    found: dict[str, float] = {}
    step, since = "", 0.0
    with subprocess.Popen([*command, *named, *sets], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := _HEADER.match(line):
                step, since = match[1], time.monotonic()
            elif step and line.startswith("   "):
                found[step] = time.monotonic() - since
                step = ""
    if process.returncode != 0:
        sys.exit(process.returncode)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs that count, after one that does not (3)")
    parser.add_argument("--images", type=Path, metavar="FILE", help="as for `run --runner docker`")
    flags = parser.parse_args()
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-images-") as folder:
        workdir = Path(folder)
        first_lines(workdir, flags.images)
        for _ in range(flags.runs):
            shutil.rmtree(workdir / ".local" / "cache")
            for step, seconds in first_lines(workdir, flags.images).items():
                times[step].append(seconds)
    rows = [["step", "first line after", "of"]]
    rows += [[step, f"{statistics.median(seen):.2f} s", f"{len(seen)} runs"] for step, seen in times.items()]
    print("\n".join(columns(rows)))


if __name__ == "__main__":
    main()
