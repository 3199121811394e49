"""The connected pieces of a binary mask, with numpy alone.

Works on horizontal runs instead of pixels: an inspection mask of millions of pixels has a few hundred
runs, and linking those needs no loop over pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.crop.window import Box

#: Horizontal runs, pairs of neighbours among them, and pieces of a mask, at most: noise has as many as it has pixels.
MOST_RUNS, MOST_PAIRS, MOST_PIECES = 1_000_000, 4_000_000, 10_000
# Bytes that a run takes at most, with its pairs; pixels that are looked at at once, and the bytes that each takes.
_RUN, _STRIP, _LOOKED_AT = 400, 1 << 22, 12


def memory(pixels: int) -> int:
    """Bytes that `regions` takes at most beside a mask of so many pixels."""
    return _RUN * min(MOST_RUNS, pixels // 2) + _LOOKED_AT * min(_STRIP, pixels)


class Scattered(Exception):
    """A mask of more pieces than defects could be; the message says how many."""


@dataclass(frozen=True)
class Region:
    """One connected piece: its bounding box (half-open) and the number of its pixels."""

    box: Box
    area: int


def regions(mask: np.ndarray, join: int = 0) -> list[Region]:
    """The pieces of a boolean mask (height × width), 8-connected, top to bottom, then left to right.

    Pieces with at most `join` background pixels between them, along either axis, are one.

    Raises:
        Scattered: for a mask of noise.
    """
    rows, starts, ends = _runs(mask)
    if not len(rows):
        return []
    labels = _components(len(rows), *_neighbours(rows, starts, ends, mask.shape[1], join))
    _, labels = np.unique(labels, return_inverse=True)
    count = int(labels.max()) + 1
    if count > MOST_PIECES:
        raise Scattered(f"{count:,} separate pieces, at most {MOST_PIECES:,} are read")
    top, left = np.full(count, mask.shape[0]), np.full(count, mask.shape[1])
    bottom, right = np.zeros(count, int), np.zeros(count, int)
    np.minimum.at(top, labels, rows)
    np.minimum.at(left, labels, starts)
    np.maximum.at(bottom, labels, rows + 1)
    np.maximum.at(right, labels, ends)
    areas = np.bincount(labels, weights=ends - starts).astype(int)
    found = [Region((int(left[i]), int(top[i]), int(right[i]), int(bottom[i])), int(areas[i])) for i in range(count)]
    return sorted(found, key=lambda r: (r.box[1], r.box[0], r.box))


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, first column and column after the last of every horizontal run, in reading order."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    height, width = mask.shape
    rows, count = max(1, _STRIP // max(1, width)), 0
    for top in range(0, height, rows):
        strip = mask[top : top + rows]
        padded = np.zeros((len(strip), width + 2), np.int8)
        padded[:, 1:-1] = strip
        steps = np.diff(padded, axis=1)
        count += np.count_nonzero(steps == 1)
        if count > MOST_RUNS:
            raise Scattered(f"noise: {count:,} separate runs of pixels in its first {top + len(strip):,} rows")
        of, starts = np.nonzero(steps == 1)
        found.append((of + top, starts, np.nonzero(steps == -1)[1]))
    if not found:
        return (np.zeros(0, int),) * 3
    of, starts, ends = (np.concatenate(parts) for parts in zip(*found))
    return of, starts, ends


def _neighbours(
    rows: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int, join: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs that touch, or have at most `join` pixels between them along each axis."""
    # One number orders the runs by row and then by column; the margin keeps rows apart.
    stride = width + 2 * join + 4
    first_key, last_key = rows * stride + starts, rows * stride + ends
    left, right = [], []
    pairs = 0
    for down in range(join + 2):
        low = np.searchsorted(last_key, (rows + down) * stride + starts - join, side="left")
        high = np.searchsorted(first_key, (rows + down) * stride + ends + join, side="right")
        counts = np.maximum(high - low, 0)
        pairs += int(counts.sum())
        if pairs > MOST_PAIRS:
            raise Scattered(f"noise: {len(rows):,} separate runs of pixels close to each other")
        source = np.repeat(np.arange(len(rows)), counts)
        offset = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        left.append(source)
        right.append(np.repeat(low, counts) + offset)
    return np.concatenate(left), np.concatenate(right)


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The smallest member of each item's component, for the graph with edges `left`–`right`."""
    labels = np.arange(count)
    while True:
        smallest = np.minimum(labels[left], labels[right])
        lowered = labels.copy()
        # Lower what the labels point to, then follow the links: long chains settle in few rounds.
        np.minimum.at(lowered, labels[left], smallest)
        np.minimum.at(lowered, labels[right], smallest)
        while not np.array_equal(lowered, jumped := lowered[lowered]):
            lowered = jumped
        if np.array_equal(lowered, labels):
            return labels
        labels = lowered
