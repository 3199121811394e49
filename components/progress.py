"""Progress as plain lines, readable in a terminal and in a pod's log alike.

No carriage returns and no colours: a log collector keeps every line, and a line says everything
that a bar would (how far, how fast, how long still). What others named (classes, files) cannot begin a line of its own
either. Not covered: log levels and log files.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from components import printable


def log(message: str) -> None:
    """Print one line with the time of day, at once; as `components.printable.lines`, further ones are indented."""
    print(f"{time.strftime('%H:%M:%S')}  {printable.lines(message)}", flush=True)


def duration(seconds: float) -> str:
    """`seconds` as people write it: ``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """A number of bytes in decimal units, as disks and object stores count them: ``19.6 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


class Progress:
    """Logs a line every `every` seconds: done of total, rate, time left and the given values."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str = "step",
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] = log,
    ) -> None:
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self._clock, self._write = clock, write
        self._start = self._last = clock()
        self._first = 0
        self._shown = -1

    def begin(self, done: int) -> None:
        """Work goes on after the first `done`: they do not count for the rate."""
        self._first = done
        self._start = self._last = self._clock()

    def due(self) -> bool:
        """Whether `update` would write a line now (to skip work that only the line needs)."""
        return self._clock() - self._last >= self.every

    def update(self, done: int, **values: float) -> None:
        """Say that `done` of the total are done; `values` are appended as ``name value``."""
        if done < self.total and not self.due():
            return
        if done == self._shown:
            return
        now = self._clock()
        self._last, self._shown = now, done
        rate = (done - self._first) / max(now - self._start, 1e-9)
        parts = [f"{self.what}  {done}/{self.total}"]
        parts.append(f"{rate:.1f} {self.unit}/s" if rate >= 1 or rate == 0 else f"{1 / rate:.1f} s/{self.unit}")
        parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items()]
        if done < self.total and rate > 0:
            parts.append(f"{duration((self.total - done) / rate)} left")
        elif done >= self.total:
            parts.append(f"done in {duration(now - self._start)}")
        self._write("  ".join(parts))
