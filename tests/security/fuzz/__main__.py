"""``python -m tests.security.fuzz TARGET [SECONDS [CORPUS]]``: atheris on a target of `targets`, from its good inputs.

Run by ``make fuzz`` in an environment of its own. Ends at the first input that raises anything but an error for the
user, takes over 20 s or 2 GB; the input is left in the corpus' folder as ``crash-…``. It says when it reaches an error
branch for the first time: a place in the sources that raises an error for the user, or one of those about a single
annotation or image that are gathered and told together.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from random import Random

import atheris

#: atheris 3.0.0 never frees what an instrumented comparison gives, and the labelling of regions compares all pixels.
_SEEN = {"include": ["components", "pipelines"], "exclude": ["components.crop.regions"]}

with atheris.instrument_imports(**_SEEN):
    from components.crop.formats.reading import Wrong
    from components.crop.images import Unreadable
    from components.errors import Unavailable, UserError
    from tests.security.fuzz import targets

_RUNS = 10**9


class Branches:
    """The places in the sources at which errors for the user were raised; each is said when it is reached first."""

    def __init__(self, name: str) -> None:
        self._name, self._seen, self._lock = name, set[tuple[str, int]](), threading.Lock()
        self._began, self._input = time.monotonic(), 0

    def next_input(self) -> None:
        self._input += 1

    def note(self, error: BaseException) -> None:
        """Take note of where `error`, and those that it was made of, were raised."""
        cause: BaseException | None = error
        while cause is not None:
            for frame in traceback.extract_tb(cause.__traceback__)[-1:]:
                self._reached(frame.filename, frame.lineno or 0)
            cause = cause.__context__

    def watch(self, kind: type[Exception]) -> None:
        """Take note of where errors of a kind are made from now on, whatever becomes of them."""
        make = kind.__init__

        def noted(error: Exception, *arguments: object) -> None:
            make(error, *arguments)
            caller = sys._getframe(1)
            self._reached(caller.f_code.co_filename, caller.f_lineno)

        kind.__init__ = noted  # type: ignore[method-assign, assignment]

    def _reached(self, file: str, line: int) -> None:
        place = (Path(file).name, line)
        # Annotations are read by several threads.
        with self._lock:
            if place in self._seen:
                return
            self._seen.add(place)
            took = time.monotonic() - self._began
            reached = f"{self._name}: error branch {len(self._seen)}, input {self._input}, {took:.0f} s"
            print(f"{reached}: {place[0]}:{place[1]}", file=sys.stderr, flush=True)


def main(name: str, seconds: str = "60", corpus: str = "") -> None:
    target = (targets.TARGETS | targets.HEAVY)[name]
    home = Path(corpus or tempfile.mkdtemp(prefix="fuzz-")) / name
    home.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.seeds_of(name)):
        (home / f"seed-{number}").write_bytes(seed)
    # What a target imports when it is first called is to be instrumented, too.
    with atheris.instrument_imports(**_SEEN), tempfile.TemporaryDirectory() as folder:
        for seed in targets.seeds_of(name):
            with contextlib.suppress(UserError):
                target.read(seed, Path(folder))
    branches = Branches(name)
    branches.watch(Wrong)
    branches.watch(Unreadable)
    with tempfile.TemporaryDirectory(prefix="fuzzed-") as folder:

        def once(data: bytes) -> None:
            branches.next_input()
            try:
                target.read(data, Path(folder))
            except (UserError, Unavailable, Wrong) as error:
                branches.note(error)

        def mutate(data: bytes, most: int, seed: int) -> bytes:
            random = Random(seed)
            return target.change(data, random)[:most] if random.random() < 0.5 else atheris.Mutate(data, most)

        flags = [f"-max_total_time={seconds}", f"-artifact_prefix={home}/", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup(
            [sys.argv[0], str(home), *flags, f"-runs={_RUNS}", "-print_final_stats=0"], once, custom_mutator=mutate
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
