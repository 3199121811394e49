"""What `submit --plan` says before a run is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.__main__ import main
from pipelines.cluster import profile as profiles
from pipelines.remote import forecast, runs
from tests.pipelines.golden import REFERENCES
from tests.pipelines.remote import argo
from tests.pipelines.remote.conftest import SETTINGS
from tests.pipelines.remote.kfp_server import KfpServer

pytestmark = pytest.mark.usefixtures("quick")


def test_the_plan_says_what_is_known_and_sends_nothing(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--profile", "gpu", "--images", str(REFERENCES), "--host", kfp.url, *SETTINGS]
    assert main(["submit", "--plan", *flags]) == 0
    said = capsys.readouterr().out
    assert "not counted: it cannot be read from here" in said
    assert "GPU time     not known, no run has trained yet; at most 54 h 00 min" in said
    gpu = profiles.load("gpu", REFERENCES)
    # Two shards are two more pods as evaluate's, of 6 h and two retries.
    assert "at most 90 h 00 min" in forecast.gpu_time(gpu, [], shards=2)
    assert "pipeline     a new version would be uploaded" in said
    assert "cache        answers nothing: no run of this experiment has succeeded" in said
    assert re.search(r"train +4 +32Gi +1 × nvidia.com/gpu +12 h 00 min, up to 3 tries", said)
    assert all(request.startswith("GET ") for request in kfp.requests)
    assert main(["submit", "--detach", *flags]) == 0
    argo.done()(next(iter(kfp.runs.values())))
    assert main(["submit", "--plan", *flags]) == 0
    said = capsys.readouterr().out
    assert "GPU time     10 min 00 s in the newest run that trained" in said
    assert "cache        answers every step but snapshot, unless data" in said
    assert main(["submit", "--plan", *flags, "--set=evaluate.images_per_class=9"]) == 0
    assert "cache        answers crop, train unless the data changed; evaluate runs" in capsys.readouterr().out
    assert len(kfp.runs) == 1


def test_the_plan_knows_what_each_step_is_given(compiled: str) -> None:
    """Of the pipeline's parameters; a step that is given another one would be said to be cached wrongly."""
    tasks = next(yaml.safe_load_all(compiled))["root"]["dag"]["tasks"]
    for step, names in forecast.PARAMETERS.items():
        given = tasks[runs.task_name(step)]["inputs"]["parameters"].values()
        found = {one["componentInputParameter"] for one in given if "componentInputParameter" in one}
        told = {one["taskOutputParameter"]["outputParameterKey"] for one in given if "taskOutputParameter" in one}
        assert found | ({"base_model"} if "base" in told else set()) == set(names)


def test_with_a_pushed_data_set_and_base_model_the_plan_counts_them(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_store: Any
) -> None:
    from components.versions.push import push

    for name, value in embedded_store.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    counted = {"images": 3, "format": "masks", "defects": {"short": 2, "open": 1}, "good": 0, "problems": 0}
    place = store.at("plans", "datasets", "boards")
    done = push(place, tmp_path / "data", {"annotations": counted})
    assert forecast.images_in(place.uri)[0] == f"version {done.version}: 3 images, annotations as masks"
    assert "short      2 defects" in forecast.images_in(f"{place.uri}@{done.version}")
    assert "cannot be read" in forecast.images_in(f"{place.uri}@20260101T000000Z-000000000000")[0]
    assert "no pushed data set" in forecast.images_in(store.at("plans").uri)[0]
    base = tmp_path / "base"
    for part in ("unet", "vae", "text_encoder"):
        (base / part).mkdir(parents=True)
        (base / part / "model.safetensors").write_bytes(b"x" * 10)
    store.at("plans", "base").put_tree(base)
    assert forecast.weights_of(store.at("plans", "base").uri) == {"unet": 10, "text_encoder": 10, "vae": 10}
    assert forecast.weights_of(store.at("plans", "none").uri) is None
