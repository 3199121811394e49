"""What the fuzzer and the property tests call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.security.fuzz.mutations import other_word


@dataclass(frozen=True)
class Target:
    """Reads `data` with `folder`, which is empty at first and stays between calls, as its scratch space."""

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]  #: good inputs, for others to be made from
    ends: str = ""  #: in the error that some good inputs end with: readers share them, or a part is left out
    change: Callable[[bytes, Random], bytes] = other_word  #: makes an input into another one, its form kept
