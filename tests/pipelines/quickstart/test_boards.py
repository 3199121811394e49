"""Drawn pictures: every finish and surface, sizes, determinism, variety."""

import subprocess
import sys

import numpy as np
import pytest

from pipelines.quickstart.boards import FINISHES, draw_board
from pipelines.quickstart.canvas import Canvas, blur, smooth_noise
from pipelines.quickstart.corpus import caption_variants
from pipelines.quickstart.crops import MIX, draw_picture
from pipelines.quickstart.layout import plan_board
from pipelines.quickstart.surfaces import SURFACES, draw_chips, draw_surface

SIZE = 192


@pytest.mark.parametrize("what", MIX)
def test_every_kind_of_picture_has_its_size_content_and_caption(what: str) -> None:
    drawing = draw_picture(np.random.default_rng(1), what, SIZE)
    assert drawing.image.shape == (SIZE, SIZE, 3)
    assert drawing.image.dtype == np.uint8
    assert drawing.image.std() > 2
    assert drawing.caption.startswith("a ")
    assert not drawing.defects


@pytest.mark.parametrize("finish", FINISHES)
def test_the_same_seed_draws_the_same_board_and_another_seed_another(finish: str) -> None:
    first, again, other = (draw_board(np.random.default_rng(seed), SIZE, finish).image for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("finish", ["scan", "inverted scan"])
def test_scans_are_black_and_white_but_for_what_a_jpeg_leaves_along_edges(finish: str) -> None:
    image = draw_board(np.random.default_rng(2), SIZE, finish).image
    assert np.array_equal(image, image[..., :1].repeat(3, axis=-1))
    grey = image[..., 0]
    assert np.mean((grey == 0) | (grey == 255)) > 0.5
    specks = (grey > 32) & (grey < 224)
    assert 0 < specks.mean() < 0.03
    # A block of the JPEG that is even before is even after: specks come with an edge in their 8x8 block.
    dark = grey < 128
    for y, x in np.argwhere(specks):
        block = dark[y // 8 * 8 : y // 8 * 8 + 8, x // 8 * 8 : x // 8 * 8 + 8]
        assert block.any()
        assert not block.all()


def test_grey_finishes_have_no_colour() -> None:
    image = draw_board(np.random.default_rng(2), SIZE, "grey photo").image
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("size", [64, 101, 500])
def test_any_size_can_be_drawn(size: int) -> None:
    rng = np.random.default_rng(0)
    assert draw_board(rng, size, "blue photo").image.shape == (size, size, 3)
    assert draw_surface(rng, size, SURFACES[0]).image.shape == (size, size, 3)
    assert draw_chips(rng, size).image.shape == (size, size, 3)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="green photo"):
        draw_board(np.random.default_rng(0), SIZE, "mauve photo")
    with pytest.raises(ValueError, match="cast metal"):
        draw_surface(np.random.default_rng(0), SIZE, "velvet")


def test_traces_run_in_steps_of_45_degrees() -> None:
    traces = plan_board(np.random.default_rng(5), 640).traces
    assert traces
    for trace in traces:
        along = np.diff(np.asarray(trace.points), axis=0)
        along = along[np.abs(along).max(axis=1) > 1]
        angles = np.degrees(np.arctan2(along[:, 1], along[:, 0])) % 45
        assert np.all((angles < 1) | (angles > 44))


def test_a_stroke_covers_its_width_and_a_grown_polygon_its_margin() -> None:
    canvas = Canvas(100)
    canvas.stroke([(10, 50), (90, 50)], 11)
    assert (canvas.coverage()[:, 50] > 127).sum() == pytest.approx(11, abs=1)
    canvas = Canvas(100)
    canvas.polygon([(40, 40), (60, 40), (60, 60), (40, 60)], grow=10)
    assert (canvas.coverage()[50] > 127).sum() == pytest.approx(40, abs=2)


def test_noise_has_unit_scale_and_the_grain_asked_for() -> None:
    fine, coarse = (smooth_noise(np.random.default_rng(0), 256, scale) for scale in (1, 16))
    assert fine.std() == pytest.approx(1, abs=0.1)
    assert coarse.std() == pytest.approx(1, abs=0.35)
    assert np.abs(np.diff(coarse)).mean() < 0.2 * np.abs(np.diff(fine)).mean()


def test_blur_keeps_the_mean_and_lowers_the_deviation() -> None:
    values = smooth_noise(np.random.default_rng(0), 64, 1)
    soft = blur(values, 2.0)
    assert soft.mean() == pytest.approx(values.mean(), abs=0.05)
    assert soft.std() < 0.3 * values.std()


def test_captions_vary_but_stay_about_the_picture() -> None:
    rng = np.random.default_rng(0)
    caption = "a scan of a printed circuit board, black copper on white"
    variants = {caption_variants(rng, caption) for _ in range(200)}
    assert caption in variants
    assert len(variants) >= 4
    assert all("printed circuit board" in v for v in variants)


def test_drawing_needs_neither_torch_nor_kfp() -> None:
    code = (
        "import sys; import pipelines.quickstart.samples, pipelines.quickstart.crops, pipelines.quickstart.train_base; "
        "sys.exit(', '.join({'torch', 'kfp', 'diffusers', 'transformers'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
