"""Flaws of surfaces and chips: exact masks, where they belong, seeded, and visible."""

import numpy as np
import pytest

from pipelines.quickstart.boards import Drawing
from pipelines.quickstart.flaws import CHIP_KINDS, TILE_KINDS, draw_flaws
from pipelines.quickstart.surfaces import draw_chips, draw_surface

SIZE = 320


def tile(seed: int, wanted: dict[str, int] | None) -> Drawing:
    return draw_surface(np.random.default_rng(seed), SIZE, "metal tile", wanted)


def chips(seed: int, wanted: dict[str, int] | None) -> Drawing:
    return draw_chips(np.random.default_rng(seed), SIZE, wanted)


@pytest.mark.parametrize(("draw", "kinds"), [(tile, TILE_KINDS), (chips, CHIP_KINDS)])
def test_a_mask_is_where_the_picture_differs_from_the_one_without_flaws(draw, kinds) -> None:  # type: ignore[no-untyped-def]
    found = 0
    for seed in range(4):
        plain, flawed = draw(seed, None), draw(seed, dict.fromkeys(kinds, 2))
        assert plain.defects == []
        assert plain.caption == flawed.caption
        changed = np.abs(flawed.image.astype(int) - plain.image).max(axis=-1)
        marked = np.zeros((SIZE, SIZE), dtype=bool)
        for defect in flawed.defects:
            assert defect.kind in kinds
            x0, y0, x1, y1 = defect.box
            ys, xs = np.nonzero(defect.mask)
            assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert not (marked & defect.mask).any()
            marked |= defect.mask
            assert changed[defect.mask].mean() > 8
        # Beyond a soft rim of five pixels nothing was touched.
        near = np.zeros_like(marked)
        for y, x in np.argwhere(marked):
            near[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = True
        assert changed[~near].max() == 0
        found += len(flawed.defects)
    assert found >= 8


def test_the_same_seed_makes_the_same_flaws() -> None:
    first, again, other = (tile(seed, {"blowhole": 3}) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert [d.box for d in first.defects] == [d.box for d in again.defects]
    assert not np.array_equal(first.image, other.image)


def test_blowholes_and_cracks_are_darker_and_scratches_brighter_than_around() -> None:
    for kind, sign in (("blowhole", -1), ("crack", -1), ("scratch", 1)):
        image = np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
        everywhere = np.ones((SIZE, SIZE), dtype=bool)
        changed, found = draw_flaws(np.random.default_rng(0), image, everywhere, {kind: 3})
        assert len(found) == 3
        for defect in found:
            assert sign * (float(changed[defect.mask].mean()) - 120) > 20


def test_flaws_stay_inside_what_they_are_drawn_on() -> None:
    image = np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
    where = np.zeros((SIZE, SIZE), dtype=bool)
    where[100:220, 100:220] = True
    _, found = draw_flaws(np.random.default_rng(1), image, where, {"crack": 2, "stain": 2})
    assert found
    assert not any((defect.mask & ~where).any() for defect in found)
    assert draw_flaws(np.random.default_rng(1), image, where & False, {"crack": 2})[1] == []


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ValueError, match=r"dint.*known.*blowhole"):
        tile(0, {"dint": 1})
