"""``python -m tests.security.fuzz TARGET [SECONDS [CORPUS]]``: atheris on a target of `targets`, from its good inputs.

Run by ``make fuzz`` in an environment of its own. Ends at the first input that raises anything but an error for the
user, takes over 20 s or 2 GB; the input is left in the corpus' folder as ``crash-…``. It says when it reaches an error
branch for the first time: a place in the sources that raises an error for the user.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["components", "pipelines"]):
    from components.crop.formats.reading import Wrong
    from components.errors import Unavailable, UserError
    from tests.security.fuzz import targets

_RUNS = 10**9


class Branches:
    """The places in the sources at which errors for the user were raised; each is said when it is reached first."""

    def __init__(self, name: str) -> None:
        self._name, self._seen = name, set[tuple[str, int]]()
        self._began = time.monotonic()

    def note(self, error: BaseException, inputs: int) -> None:
        """Take note of where `error`, and those that it was made of, were raised by the `inputs`-th input."""
        cause: BaseException | None = error
        while cause is not None:
            for frame in traceback.extract_tb(cause.__traceback__)[-1:]:
                place = (Path(frame.filename).name, frame.lineno or 0)
                if place not in self._seen:
                    self._seen.add(place)
                    took = time.monotonic() - self._began
                    reached = f"{self._name}: error branch {len(self._seen)}, input {inputs}, {took:.0f} s"
                    print(f"{reached}: {place[0]}:{place[1]}", file=sys.stderr, flush=True)
            cause = cause.__context__


def main(name: str, seconds: str = "60", corpus: str = "") -> None:
    target = (targets.TARGETS | targets.HEAVY)[name]
    home = Path(corpus or tempfile.mkdtemp(prefix="fuzz-")) / name
    home.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.seeds_of(name)):
        (home / f"seed-{number}").write_bytes(seed)
    # What a target imports when it is first called is to be instrumented, too.
    with atheris.instrument_imports(include=["components", "pipelines"]), tempfile.TemporaryDirectory() as folder:
        for seed in targets.seeds_of(name):
            with contextlib.suppress(UserError):
                target.read(seed, Path(folder))
    branches, inputs = Branches(name), itertools.count(1)
    with tempfile.TemporaryDirectory(prefix="fuzzed-") as folder:

        def once(data: bytes) -> None:
            number = next(inputs)
            try:
                target.read(data, Path(folder))
            except (UserError, Unavailable, Wrong) as error:
                branches.note(error, number)

        flags = [f"-max_total_time={seconds}", f"-artifact_prefix={home}/", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup([sys.argv[0], str(home), *flags, f"-runs={_RUNS}", "-print_final_stats=0"], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
