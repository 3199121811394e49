"""``python -m components <step> …``: the entry point of every step's container.

The steps, and the parts of steps, are those of `components.images`; a module, and with it its heavy libraries, is
imported only when asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from components import runtime
from components.images import BESIDE, PARTS, STEPS

#: Step and flag → module and function that serve in the step's place where the flag is given: work without a pipeline.
_ALONE = {("evaluate", "--images"): ("components.evaluate.folders", "compare")}
#: Part of a step → module and function.
_PARTS = {"draw": ("components.evaluate.shard", "draw")}


def load(name: str, arguments: Sequence[str] = ()) -> runtime.Step:
    """The function of the step or part of a step called `name`, or what serves for these `arguments` in its place."""
    place = _PARTS.get(name, (f"components.{name}.step", name))
    for argument in arguments:
        place = _ALONE.get((name, argument.partition("=")[0]), place)
    loaded: runtime.Step = getattr(importlib.import_module(place[0]), place[1])
    return loaded


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        known = f"steps: {', '.join(STEPS)}; parts of steps: {', '.join(PARTS)}"
        print(f"{__doc__}\n{known}\n\npython -m components <step> --help shows a step's flags")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in (*STEPS, *PARTS, *BESIDE):
        print(f"error: there is no step {name!r}; the steps are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    runtime.heed_sigterm()
    runtime.quiet_environment()
    try:
        step = load(name, rest)
    except Exception as error:
        # Libraries are most of what a small machine has no room for.
        if (status := runtime.told(name, error)) is None:
            raise
        return status
    return runtime.main(name, step, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
