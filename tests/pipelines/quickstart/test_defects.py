"""Defects: in the copper, where the mask says, and of the kind that the name says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.quickstart.boards import Drawing, draw_board, draw_copper, draw_holes, draw_nets
from pipelines.quickstart.defects import BORDER, KINDS, SPACING, draw_defects
from pipelines.quickstart.layout import plan_board

SIZE = 640
WANTED = dict.fromkeys(KINDS, 2)


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return [draw_board(np.random.default_rng(s), SIZE, "scan", WANTED, flooded=False) for s in range(4)]


def test_every_kind_appears(drawings: list[Drawing]) -> None:
    kinds = [d.kind for drawing in drawings for d in drawing.defects]
    for kind in KINDS:
        assert 6 <= kinds.count(kind) <= 8


def test_a_box_is_the_bounds_of_its_mask(drawings: list[Drawing]) -> None:
    for defect in (d for drawing in drawings for d in drawing.defects):
        x0, y0, x1, y1 = defect.box
        assert defect.mask.shape == (SIZE, SIZE)
        assert defect.mask[y0:y1, x0:x1].sum() == defect.mask.sum() > 0
        for line in (defect.mask[y0], defect.mask[y1 - 1], defect.mask[:, x0], defect.mask[:, x1 - 1]):
            assert line.any()


def test_defects_keep_off_the_border_and_each_other(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        centres = np.array([((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (d.box for d in drawing.defects)])
        assert centres.min() > BORDER / 2
        assert centres.max() < SIZE - BORDER / 2
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e6 * np.eye(len(centres))
        assert apart.min() > SPACING / 2


def board(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list]:
    """Copper before and after, and the defects."""
    rng = np.random.default_rng(seed)
    layout = plan_board(rng, SIZE, flooded=False)
    canvas, holes = draw_copper(layout), draw_holes(layout).coverage()
    before = canvas.coverage() >= 128
    defects = draw_defects(rng, layout, canvas, draw_nets(layout), holes, WANTED)
    return before & (holes == 0), (canvas.coverage() >= 128) & (holes == 0), defects


def pieces(copper: NDArray[np.bool_]) -> int:
    """How many separate areas of copper there are (4-connected)."""
    left, count = copper.copy(), 0
    while left.any():
        count += 1
        todo = [tuple(np.argwhere(left)[0])]
        left[todo[0]] = False
        while todo:
            y, x = todo.pop()
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < left.shape[0] and 0 <= u < left.shape[1] and left[v, u]:
                    left[v, u] = False
                    todo.append((v, u))
    return count


@pytest.mark.parametrize("seed", [0, 1])
def test_what_changed_is_what_the_masks_say(seed: int) -> None:
    before, after, defects = board(seed)
    union = np.any([d.mask for d in defects], axis=0)
    changed = before != after
    assert (changed & ~union).sum() <= 0.03 * union.sum()  # partly covered pixels at the rims
    assert (changed & union).sum() >= 0.9 * union.sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_kind_does_to_the_copper_what_its_name_says(seed: int) -> None:
    before, after, defects = board(seed)
    for defect in defects:
        x0, y0, x1, y1 = defect.box
        window = (slice(y0 - 5, y1 + 5), slice(x0 - 5, x1 + 5))
        adds = defect.kind in ("short", "spur", "copper")
        assert after[defect.mask].mean() > 0.95 if adds else after[defect.mask].mean() < 0.05
        was, now = pieces(before[window]), pieces(after[window])
        if defect.kind == "copper":
            assert (was, now) == (0, 1)
        elif defect.kind == "open":
            assert now > was
        elif defect.kind == "short":
            assert now < was
        elif defect.kind == "pin-hole":
            assert before[window].all()
            assert now == 1
        elif defect.kind == "spur":
            assert now == was


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="mousebite"):
        draw_board(np.random.default_rng(0), 256, "scan", {"scratch": 1})


def test_a_board_too_small_for_defects_has_fewer() -> None:
    drawing = draw_board(np.random.default_rng(0), 128, "scan", dict.fromkeys(KINDS, 5))
    assert len(drawing.defects) < 30
