"""The sample set on disk: layout, contents, determinism, and what a user can get wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.errors import UserError
from pipelines.quickstart.defects import KINDS
from pipelines.quickstart.samples import IMAGES, SETS, draw_sample, main, write_samples


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_images_and_one_mask_per_class_are_written(tmp_path: Path) -> None:
    write_samples(tmp_path / "set", images=2, size=320)
    names = sorted(p.name for p in (tmp_path / "set" / "images").iterdir())
    assert names == ["board-000.png", "board-001.png"]
    masks = sorted((tmp_path / "set" / "masks").rglob("*.png"))
    assert {p.parent.name for p in masks} <= set(KINDS)
    assert masks
    for path in masks:
        with Image.open(path) as mask, Image.open(tmp_path / "set" / "images" / path.name) as image:
            assert mask.mode == "L"
            assert image.mode == "RGB"
            assert mask.size == image.size == (320, 320)
            assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_the_same_arguments_write_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_samples(tmp_path / name, images=1, size=256, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


@pytest.mark.parametrize(("what", "stem"), [("tiles", "tile"), ("chips", "chips")])
def test_other_sets_hold_the_flaws_of_what_they_show(what: str, stem: str, tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "set"), "--what", what, "--images", "2", "--size", "400"])
    assert sorted(p.name for p in (tmp_path / "set" / "images").iterdir()) == [f"{stem}-000.png", f"{stem}-001.png"]
    folders = {p.name for p in (tmp_path / "set" / "masks").iterdir()}
    assert folders
    assert folders <= set(SETS[what].kinds)


def test_an_unknown_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--what wafers.*known: boards, tiles, chips"):
        write_samples(tmp_path / "set", what="wafers")
    assert not list(tmp_path.iterdir())


def test_fewer_images_are_the_first_of_more(tmp_path: Path) -> None:
    write_samples(tmp_path / "one", images=1, size=256)
    write_samples(tmp_path / "two", images=2, size=256)
    assert files(tmp_path / "one").items() <= files(tmp_path / "two").items()


def test_the_default_set_has_enough_of_each_kind_however_it_is_split() -> None:
    """40 to train on and 25 to measure with, whichever 35 % of the images are held out."""
    images = [[d.kind for d in draw_sample(640, 0, i).defects] for i in range(IMAGES)]
    held_out = round(0.35 * IMAGES)
    for kind in KINDS:
        counts = sorted(kinds.count(kind) for kinds in images)
        assert sum(counts[:held_out]) >= 25
        assert sum(counts[: IMAGES - held_out]) >= 40


def test_an_empty_folder_is_filled_and_a_full_one_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write_samples(empty, images=1, size=128)
    before = files(empty)
    with pytest.raises(UserError, match="not an empty folder"):
        write_samples(empty, images=1, size=128)
    assert files(empty) == before


def test_all_mistakes_are_reported_together_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        write_samples(tmp_path / "out", images=0, size=20, seed=-1)
    assert len(raised.value.problems) == 3
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_and_reports_mistakes_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--out", str(tmp_path / "set"), "--images", "1", "--size", "128"])
    assert (tmp_path / "set" / "images" / "board-000.png").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path / "set"), "--images", "1", "--size", "128"])
    assert stopped.value.code == 2
    assert "name another one" in capsys.readouterr().err


def test_nothing_stays_behind_when_drawing_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.quickstart.samples.draw_sample", broken)
    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path / "out", images=1, size=128)
    assert not list(tmp_path.iterdir())
