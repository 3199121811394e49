"""Finding the image that an annotation file names, wherever the data set was when it was annotated."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from components.crop.formats.reading import Wrong, shown
from components.crop.images import is_image


class Images:
    """The images of a data set, to be found by name."""

    def __init__(self, files: Iterable[str]) -> None:
        self.paths = {f for f in files if is_image(f)}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.paths):
            self._by_name[PurePosixPath(path).name].append(path)

    def locate(self, name: str, near: str) -> str:
        """The image that the annotation file `near` calls `name`; both kinds of slashes are read.

        In this order: `name` relative to the folder of `near`; relative to the data set; the image whose
        path ends like `name`. An absolute path, or one with ``..``, is matched by as much of its end as
        fits, since data sets move. Of several, the one in a folder that the name of `near` names
        (``instances_train.json``: ``train/``), then the one nearest to `near`.

        Raises:
            Wrong: when there is none, or no single nearest one.
        """
        parts = [part for part in re.split(r"[\\/]+", name.strip()) if part not in ("", ".")]
        moved = bool(re.match(r"[\\/]|[A-Za-z]:", name.strip())) or ".." in parts
        folder = posixpath.dirname(near)
        if parts and not re.match(r"[\\/]|[A-Za-z]:", name.strip()):
            for top in (folder, ""):
                path = posixpath.normpath(posixpath.join(top, *parts))
                if path in self.paths:
                    return path
        tail = [part for part in parts if part != ".."]
        lengths = {path: _common(reversed(path.split("/")), reversed(tail)) for path in self._named(tail)}
        needed = max(lengths.values(), default=0) if moved else len(tail)
        fitting = [path for path, length in lengths.items() if length >= needed]
        if not fitting:
            raise Wrong(f"image {shown(name)} is not among the files; add it, or remove its annotation")
        if len(fitting) == 1:
            return fitting[0]
        stem = PurePosixPath(near).stem
        called = {stem, *stem.split("_")}
        ranks = {p: (bool(called & set(p.split("/")[:-1])), _common(p.split("/"), near.split("/"))) for p in fitting}
        best = [path for path, rank in ranks.items() if rank == max(ranks.values())]
        if len(best) > 1:
            raise Wrong(f"image {shown(name)} may be any of {', '.join(best[:3])}; write its path in full")
        return best[0]

    def _named(self, tail: list[str]) -> list[str]:
        return self._by_name.get(tail[-1], []) if tail else []


def _common(first: Iterable[str], second: Iterable[str]) -> int:
    """How many items two sequences have in common from the beginning."""
    count = 0
    for a, b in zip(first, second):
        if a != b:
            break
        count += 1
    return count
