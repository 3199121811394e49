from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.crop.regions import Region, Scattered, regions


def flood(mask: np.ndarray, join: int) -> list[Region]:
    """The same by a plain search over pixels, to hold the fast one against."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask))}
    found = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            near = {p for p in left if abs(p[0] - y) <= join + 1 and abs(p[1] - x) <= join + 1}
            left -= near
            edge += near
        ys, xs = [p[0] for p in piece], [p[1] for p in piece]
        found.append(Region((min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(piece)))
    return sorted(found, key=lambda r: (r.box[1], r.box[0], r.box))


@given(
    arrays.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))),
    st.integers(0, 3),
)
def test_regions_are_those_of_a_search_over_pixels(mask: np.ndarray, join: int) -> None:
    found = regions(mask, join)
    assert sorted(found, key=lambda r: (r.box, r.area)) == sorted(flood(mask, join), key=lambda r: (r.box, r.area))
    assert sum(r.area for r in found) == mask.sum()


@pytest.mark.parametrize(("join", "pieces"), [(0, 3), (1, 3), (2, 2), (4, 1)])
def test_pieces_with_a_small_gap_are_one(join: int, pieces: int) -> None:
    mask = np.zeros((20, 40), bool)
    mask[5:10, 2:10] = mask[5:10, 12:20] = mask[14:18, 12:20] = True
    assert len(regions(mask, join)) == pieces


def test_a_long_snake_is_one_region() -> None:
    mask = np.zeros((401, 401), bool)
    mask[::4] = True
    for i, row in enumerate(range(0, 397, 4)):
        mask[row : row + 5, 400 if i % 2 else 0] = True
    assert regions(mask) == [Region((0, 0, 401, 401), int(mask.sum()))]


def test_an_empty_mask_has_none() -> None:
    assert regions(np.zeros((5, 5), bool)) == []


def test_noise_is_not_taken_for_pieces() -> None:
    mask = np.zeros((4000, 4000), bool)
    mask[::2, ::2] = True
    with pytest.raises(Scattered, match="noise: 1,0.* separate runs of pixels in its first"):
        regions(mask, 3)
    with pytest.raises(Scattered, match="separate runs of pixels close to each other"):
        regions(mask[:1400, :1400], 3)
    with pytest.raises(Scattered, match=r"62,500 separate pieces, at most 10,000 are read"):
        regions(mask[:500, :500])
