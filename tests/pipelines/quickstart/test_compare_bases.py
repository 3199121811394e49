"""The table of base models: what it measures, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from components.__main__ import load
from components.crop.config import CropConfig
from components.errors import UserError
from components.extractor import Lite0
from pipelines.quickstart import compare_bases
from pipelines.quickstart.samples import write_samples

pytestmark = pytest.mark.integration
BASE = Path(__file__).parents[3] / "pipelines" / "quickstart" / "base"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    write_samples(folder / "boards", images=6, size=400, seed=2)
    config = CropConfig(resolution=64, product="board", classes=["copper"], reference_fraction=0.4)
    load("crop")(config, str(folder / "boards"), "x", folder / "crops", folder / "page.html")
    return folder / "crops"


def test_a_row_a_base_and_the_floor(
    crops: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_bases, "DRAWN", ("scan",))
    monkeypatch.setattr(compare_bases, "DRAWN_PICTURES", 1)
    monkeypatch.setattr(compare_bases, "SAMPLES", 6)
    monkeypatch.setattr(compare_bases, "STEPS", 3)
    compare_bases.main(["--base", str(BASE), "--crops", str(crops)])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows[0] == ["base", "weights", "boards: wrong side", "PSNR", "fine texture", "kd_lite0", "draws scan"]
    assert [row[0] for row in rows[2:]] == ["`base`", "real against real"]
    assert float(rows[2][2].removesuffix(" %")) < 5
    assert float(rows[2][6]) > float(rows[2][5]) > -50


def test_distances_are_zero_for_the_same_kind_of_pictures_and_large_for_another() -> None:
    extractor, random = Lite0("cpu"), np.random.default_rng(0)
    noise = random.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    assert abs(compare_bases.distance(extractor, noise[:12], noise[12:])) < 60
    assert compare_bases.distance(extractor, noise[:12], np.full_like(noise[12:], 255)) > 300


def test_folders_that_are_none_are_named(tmp_path: Path, crops: Path) -> None:
    with pytest.raises(UserError, match=r"--base .*no diffusers folder"):
        compare_bases.table([tmp_path], [crops])
    with pytest.raises(UserError, match=r"crops\.json: not found"):
        compare_bases.table([BASE], [tmp_path])
