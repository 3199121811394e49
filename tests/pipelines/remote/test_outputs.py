"""What a run left in the store, fetched into a folder: of the right run, and nothing of another one."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.models.record import ModelRecord
from components.storage import Store, digest_of
from components.storage.naming import version_after
from pipelines.__main__ import main
from pipelines.config import PipelineConfig, load
from pipelines.pipeline import arguments
from pipelines.remote import outputs, runs, versions
from pipelines.remote.server import Server
from tests.pipelines.remote import argo
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quick")]

#: When the runs of `argo` end.
ENDED = datetime.datetime(2026, 1, 1, 2, 0, tzinfo=datetime.timezone.utc)
#: A file for TensorBoard, as train names it.
EVENTS = "000000-1a2b3c4d/events.out.tfevents.1764345600.00000001"


@pytest.fixture
def home(store: Store, embedded_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A place of the test's own in the store, reached by the environment."""
    for name, value in embedded_store.environ.items():
        monkeypatch.setenv(name, value)
    return store.at(f"outputs-{tmp_path.name}")


def settings(home: Store, *more: str) -> PipelineConfig:
    return load("quickstart", [flag.removeprefix("--set=") for flag in SETTINGS] + [f"store={home.uri}", *more])


def publish(home: Store, tmp_path: Path, config: PipelineConfig, days: float) -> str:
    """What the steps put into the store for a run with these settings; the version of its model."""
    made = version_after([], digest_of(days), (ENDED + datetime.timedelta(days=days)).timestamp())
    folder = tmp_path / made
    (folder / "config").mkdir(parents=True)
    (folder / f"boards-{made}.safetensors").write_bytes(made.encode())
    (folder / "README.md").write_text("card")
    (folder / "config" / "model_index.json").write_text("{}")
    fingerprint = f"run-of-{made}"
    data = config.model_dump(mode="json")
    record = ModelRecord(
        step=100, run=fingerprint, checkpoint_uri=None, base_uri="", base_model=config.base_model, base_revision="",
        dataset=config.dataset, dataset_revision="", dataset_version="", crops_digest="", resolution=64, prompts={},
        metric="kd_lite0", mode="min", improved=True, metrics={}, base_metrics={}, generation={},
        settings={step: data[step] for step in ("train", "evaluate", "select_best", "convert")}, dtype="float16",
        licence="", code_version="",
    )  # fmt: skip
    home.at("models", "boards", made).put_tree(folder, {"model": dataclasses.asdict(record)})
    for page in ("evaluate.html", "decision.html"):
        home.at("train", fingerprint, "reports").put_bytes(page, f"{page} of {made}".encode())
    home.at("train", fingerprint, "reports").put_bytes(f"tensorboard/{EVENTS}", made.encode())
    return made


def run_of(kfp: KfpServer, server: Server, compiled: str, parameters: Mapping[str, Any]) -> str:
    version = versions.upload(server, compiled)
    experiment = runs.experiment(server, "defect-diffusion")
    return str(runs.create(server, experiment, runs.new_name("boards"), version, parameters, "account").run_id)


def test_a_runs_model_and_pages_are_fetched(
    kfp: KfpServer, server: Server, compiled: str, home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(home)
    publish(home, tmp_path, config, -3)
    made = publish(home, tmp_path, config, -0.5)
    publish(home, tmp_path, settings(home, "train.seed=5"), -0.1)
    publish(home, tmp_path, config, +1)
    run_id = run_of(kfp, server, compiled, arguments(config))
    words = ["outputs", "--host", kfp.url, run_id, "--to", str(tmp_path / "to")]
    assert main(words) == 2
    assert f"{run_id}: has not succeeded (pending)" in capsys.readouterr().err
    argo.done()(kfp.runs[run_id])
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"version   boards@{made}" in said
    files = {path.name for path in (tmp_path / "to").iterdir()}
    assert {f"boards-{made}.safetensors", "README.md", "config", "report.html", "decision.html"} <= files
    assert (tmp_path / "to" / "report.html").read_text() == f"evaluate.html of {made}"
    assert (tmp_path / "to/tensorboard" / EVENTS).read_text() == made
    assert main(words) == 0, "again, over what is there"
    (tmp_path / "to" / "other.safetensors").write_bytes(b"")
    assert main(words) == 2
    assert "holds another model (other.safetensors)" in capsys.readouterr().err


def test_no_other_runs_model_is_taken_for_this_ones(home: Store, tmp_path: Path) -> None:
    publish(home, tmp_path, settings(home), -1)
    for change in ("dataset=s3://other/data", "base_model=s3://other/base", "train.seed=9", "convert.dtype=fp32"):
        with pytest.raises(UserError, match="no version was made with this run's data set, base model and settings"):
            outputs.version_of(home, arguments(settings(home, change)), ENDED)
    with pytest.raises(UserError, match="no version was made"):
        outputs.version_of(home, arguments(settings(home, "model_name=none")), ENDED)
