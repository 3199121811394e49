"""The whole pipeline as a user runs it: by its command line, as processes, with the embedded store."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore
from pipelines.quickstart.samples import write_samples
from tests.conftest import ROOT
from tests.environment import without_store
from tests.security.canaries import PLANTED, arguments_of_children, files_with, found_in

pytestmark = pytest.mark.e2e

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass
class Left:
    """What the runs of this file have said, and the arguments that their processes had."""

    said: list[str] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)


FAST = [
    "train.max_train_steps=2",
    "train.checkpointing_steps=1",
    "train.lr_warmup_steps=0",
    "train.train_batch_size=2",
    "train.augment=none",
    "train.num_threads=1",
    "crop.max_train_per_class=4",
    "crop.max_reference_per_class=4",
    "crop.classes=[pin-hole, open]",
    "crop.reference_fraction=0.5",
    "evaluate.images_per_class=4",
    "evaluate.num_inference_steps=2",
]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "My Boards"
    write_samples(folder, images=14, size=320, seed=1)
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def left() -> Left:
    return Left()


@pytest.fixture(scope="module")
def run(boards: Path, workdir: Path, tiny_base: Path, left: Left) -> Run:
    def call(
        *settings: str, data: Path | None = None, more: tuple[str, ...] = (), command_name: str = "run"
    ) -> subprocess.CompletedProcess[str]:
        sets = [part for s in (*FAST, f"base_model={tiny_base}", *settings) for part in ("--set", s)]
        command = [sys.executable, "-m", "pipelines", command_name, "--workdir", str(workdir)]
        command += ["--data", str(data or boards)]
        environment = without_store() | PLANTED
        # From another folder, as users do; the packages are installed or on the path.
        environment["PYTHONPATH"] = str(ROOT)
        command += [*sets, *more]
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=workdir, env=environment) as process,
            arguments_of_children(process.pid, left.arguments),
        ):
            try:
                said = process.communicate(timeout=550)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        left.said += said
        return subprocess.CompletedProcess(command, process.returncode, *said)

    return call


def ran(output: str) -> list[str]:
    """Steps that were run rather than answered from the cache."""
    return re.findall(r"^   (\w+) took ", output, flags=re.MULTILINE)


def test_a_run_makes_everything_once_and_then_only_what_changed(run: Run, workdir: Path) -> None:
    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert ran(first.stdout) == ["snapshot", "crop", "train", "evaluate", "select_best", "convert"]
    results = workdir / "my-boards"
    made = {path.name for path in results.iterdir()}
    assert {"report.html", "decision.html", "crops.html", "training.html", "comparison.png", "run.json"} <= made
    assert "](samples.png)" in (results / "MODEL_CARD.md").read_text()
    assert (results / "samples.png").is_file()
    assert list((results / "tensorboard").glob("000000-*/events.out.tfevents.*"))
    [model] = results.glob("*.safetensors")
    assert str(model.name) in first.stdout
    record = json.loads((results / "run.json").read_text())
    assert 0 < record["peak_bytes"] < 4e9
    assert record["model"]["bytes"] == model.stat().st_size

    second = run()
    assert second.returncode == 0, second.stdout + second.stderr
    assert ran(second.stdout) == ["snapshot"]
    assert second.stdout.count("cached ─") == 5
    assert json.loads((results / "run.json").read_text())["model"] == record["model"]

    third = run("convert.dtype=fp32")
    assert third.returncode == 0, third.stdout + third.stderr
    assert ran(third.stdout) == ["snapshot", "convert"]
    [bigger] = results.glob("*.safetensors")
    assert bigger.stat().st_size > 1.8 * record["model"]["bytes"]


def test_added_images_train_a_model_when_there_are_enough(
    run: Run, boards: Path, workdir: Path, tmp_path: Path
) -> None:
    write_samples(tmp_path / "more", images=6, size=320, seed=2)
    added = [p.relative_to(tmp_path / "more") for p in sorted((tmp_path / "more").rglob("*.png"))]
    places = {path: boards / path.with_name(f"added-{path.name}") for path in added}
    count_crops = "snapshot.retrain_if.new_crops=4"
    trained = run(count_crops)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    model = json.loads((workdir / "my-boards" / "run.json").read_text())["model"]
    try:
        first = added[0].name
        for path, place in places.items():
            if path.name == first:
                shutil.copy(tmp_path / "more" / path, place)
        held = run(count_crops)
        assert held.returncode == 0, held.stdout + held.stderr
        assert "no new training: " in held.stdout
        assert ran(held.stdout) == ["snapshot"]
        assert json.loads((workdir / "my-boards" / "run.json").read_text())["model"] == model

        for path, place in places.items():
            shutil.copy(tmp_path / "more" / path, place)
        news = run(count_crops)
        assert news.returncode == 0, news.stdout + news.stderr
        assert ran(news.stdout) == ["snapshot", "crop", "train", "evaluate", "select_best", "convert"]
        again = run(count_crops)
        assert "nothing new since model" in again.stdout
        assert ran(again.stdout) == ["snapshot"]
    finally:
        for place in places.values():
            place.unlink(missing_ok=True)


def test_the_model_file_loads_offline_and_draws(run: Run, workdir: Path, tiny_base: Path) -> None:
    from diffusers import StableDiffusionPipeline

    assert run().returncode == 0
    [model] = (workdir / "my-boards").glob("*.safetensors")
    loaded = StableDiffusionPipeline.from_single_file(
        str(model), config=str(tiny_base), local_files_only=True, safety_checker=None
    )
    loaded.set_progress_bar_config(disable=True)
    image = loaded("a photo of pin-hole", num_inference_steps=2, height=64, width=64).images[0]
    assert image.size == (64, 64)


def test_no_server_is_left_running(run: Run, workdir: Path) -> None:
    assert run().returncode == 0
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(workdir / ".local" / "store") not in processes


def test_credentials_are_in_nothing_that_a_run_leaves_or_says(run: Run, workdir: Path, left: Left) -> None:
    assert run().returncode == 0
    home = workdir / ".local" / "store"
    with EmbeddedStore(home) as server:
        secrets = PLANTED | {name: server.environ[name] for name in ("STORE_ACCESS_KEY_ID", "STORE_SECRET_ACCESS_KEY")}
        store = Store.from_env(server.uri, server.environ)
        objects = {info.key: store.get_bytes(info.key) or b"" for info in store.list()}
    assert all(len(secret) >= 16 for secret in secrets.values())
    assert any(key.startswith("models/") for key in objects)
    assert [key for key, data in objects.items() if found_in(key.encode() + data, secrets)] == []
    # The folder of the run, KFP's artifacts and cache, the server's files and log; the last is the
    # file that the server takes its credentials from.
    assert files_with(workdir, secrets, but=[home / "s3.json"]) == {}
    assert (home / "s3.json").stat().st_mode & 0o077 == 0
    assert found_in("".join(left.said).encode(), secrets) == []
    assert any(b"components" in line and b"snapshot" in line for line in left.arguments)
    assert found_in(b"\n".join(left.arguments), secrets) == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("crop.reference_fraction=0.02", "evaluate needs 4|at least one of each is needed"),
        ("crop.classes=[crack]", r"no defect of class 'crack' in the data; known: .*pin-hole"),
        ("train.max_train_step=3", "did you mean 'max_train_steps'"),
        ("base_model=/nowhere", "/nowhere is no folder"),
    ],
)
def test_a_mistake_ends_in_one_message_before_anything_runs(run: Run, setting: str, expected: str) -> None:
    done = run(setting)
    assert done.returncode == 2
    assert re.search(expected, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert ran(done.stdout) == []


def test_wrong_data_ends_in_one_message_before_anything_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, expected in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "is empty")):
        done = run(data=folder)
        assert done.returncode == 2
        assert expected in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert ran(done.stdout) == []


def test_an_unreadable_image_ends_in_one_message_that_names_it(run: Run, boards: Path, tmp_path: Path) -> None:
    shutil.copytree(boards, tmp_path / "torn")
    torn = tmp_path / "torn" / "images" / "board-003.png"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    done = run(data=tmp_path / "torn")
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "board-003.png" in said
    assert "crop.on_error: skip" in said
    assert "Traceback" not in said
    assert ran(done.stdout) == ["snapshot"]


def test_a_workdir_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(more=("--workdir", str(tmp_path / "file")))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_writes_a_table_over_seeds_and_a_picture(run: Run, tmp_path: Path) -> None:
    done = run(more=("--seeds", "0", "1", "--output", str(tmp_path)), command_name="study")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "my-boards.md").read_text()
    assert "| checkpoint | seed 0 | seed 1 |" in page
    for row in ("| base |", "| step 1 |", "| step 2 |"):
        [line] = [line for line in page.splitlines() if line.startswith(row)]
        cells = [cell.strip(" *") for cell in line.split("|")[2:4]]
        assert all(re.fullmatch(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]", cell) for cell in cells)
        # Another seed draws with other noise.
        assert cells[0] != cells[1]
    with Image.open(tmp_path / "my-boards.png") as picture:
        # Three rows (the base and two checkpoints) of 8 columns: four images kept of each of two classes.
        assert picture.height < picture.width


def test_a_plan_runs_nothing(run: Run) -> None:
    done = run(more=("--plan",))
    assert done.returncode == 0
    assert "pin-hole" in done.stdout
    assert "time" in done.stdout
    assert "disk" in done.stdout
    assert ran(done.stdout) == []
