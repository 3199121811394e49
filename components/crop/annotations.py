"""What every annotation format is read into: images, their defects, and what is wrong with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from components import printable
from components.crop.window import Box

#: Characters of a file's path that a problem repeats: enough of it to leave room for what is wrong.
_LONGEST_PATH = 400


@dataclass(frozen=True, order=True)
class Problem:
    """Something in the data that cannot be used, and what to do about it: one line, whatever the data say."""

    path: str  #: file relative to the data set, with ``:line`` or ``:key`` where there is one
    what: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", printable.one_line(self.path, _LONGEST_PATH))
        object.__setattr__(self, "what", printable.one_line(self.what))

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class Mask(Protocol):
    """The pixels of the defects of one class in one image; hashable, read when needed."""

    def read(self) -> np.ndarray:
        """Boolean, height × width of the image as displayed."""

    def memory(self) -> int:
        """Bytes that reading takes at most, what it returns included."""


@dataclass(frozen=True)
class Defect:
    """One annotated defect."""

    defect: str  #: its class
    box: Box  #: x0, y0, x1, y1, half-open, pixels of the image as displayed
    area: int  #: pixels: of the mask's piece, or of the box where there is no mask
    mask: Mask | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its defects; none for a good one."""

    path: str  #: relative to the data set
    size: tuple[int, int]  #: width and height as displayed
    defects: tuple[Defect, ...] = ()
    problems: tuple[Problem, ...] = ()  #: annotations of it that cannot be used


@dataclass(frozen=True, order=True)
class Annotated:
    """An image and the annotation files that belong to it."""

    image: str
    annotations: tuple[str, ...] = ()
    #: what `Format.find` already read of them, where one file annotates many images
    content: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Found:
    """What a format recognises among a data set's files."""

    images: list[Annotated] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)  #: halves without their other half, damaged files
    summary: str = ""  #: one line for the log: what was found


class Format(ABC):
    """One way to annotate images. To add one: a module in `components.crop.formats`, listed there."""

    name: str  #: value of the setting `format`
    layout: str  #: example of its files, shown where nothing was recognised

    @abstractmethod
    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        """Which of `files` (relative paths) are annotated images; no images: not this format.

        `dataset` is the data set's name, for classes that are named by a folder.
        """

    @abstractmethod
    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        """Read the annotations of one image that `find` gave. Called from several threads.

        `join`: pixels between pieces of a mask that are one defect.

        Raises:
            components.crop.images.Unreadable: when the image itself cannot be read.
        """
