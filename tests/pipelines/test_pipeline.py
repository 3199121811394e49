"""The compiled pipeline: one graph, typed by KFP, with nothing in it that does not belong."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler
from kfp.components import load_component_from_file

from components import images
from pipelines.config import load
from pipelines.pipeline import arguments, make_pipeline


def compiled(folder: Path, settings: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(make_pipeline(load("quickstart", settings), **changes), str(path))
    load_component_from_file(str(path))
    spec: dict[str, Any] = next(yaml.safe_load_all(path.read_text()))
    return spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(tmp_path_factory.mktemp("compiled"))


def test_the_steps_follow_each_other(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    assert {name.replace("-", "_") for name in tasks} == set(images.STEPS)
    before = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert before["snapshot"] == set()
    assert before["crop"] == {"snapshot"}
    assert before["train"] == {"snapshot", "crop"}
    assert before["evaluate"] == {"crop", "train"}
    assert before["select-best"] == {"evaluate", "train"}
    assert before["convert"] == {"select-best"}


def test_shards_draw_before_evaluate_measures(tmp_path: Path) -> None:
    spec = compiled(tmp_path, ["evaluate.shards=3"])
    tasks = spec["root"]["dag"]["tasks"]
    loop = next(name for name in tasks if name.startswith("for-loop"))
    assert tasks[loop]["parameterIterator"]["items"] == {"raw": "[0, 1, 2]"}
    assert set(tasks[loop]["dependentTasks"]) == {"crop", "train"}
    # After them, but given nothing by them: what they drew is in the store.
    assert set(tasks["evaluate"].pop("dependentTasks")) == {"crop", "train", loop}
    alone = compiled(tmp_path)["root"]["dag"]["tasks"]["evaluate"]
    del alone["dependentTasks"]
    assert tasks["evaluate"] == alone
    (drawn,) = spec["components"][tasks[loop]["componentRef"]["name"]]["dag"]["tasks"].values()
    assert drawn["inputs"]["parameters"]["shards"] == {"runtimeValue": {"constant": 3.0}}
    assert drawn["cachingOptions"] == {"enableCache": True}
    executors = spec["deploymentSpec"]["executors"]
    assert executors["exec-draw"]["container"]["command"] == ["python3", "-m", "components", "draw"]
    assert executors["exec-draw"]["container"]["image"] == executors["exec-evaluate"]["container"]["image"]


def test_a_newly_published_model_is_no_reason_to_evaluate_again(spec: dict[str, Any]) -> None:
    """Evaluate asks for it itself: as an input it would make every run on unchanged data another one."""
    given = spec["root"]["dag"]["tasks"]["evaluate"]["inputs"]["parameters"]
    assert given["model_name"] == {"componentInputParameter": "model_name"}
    assert not [name for name in given if "published" in name]


def test_snapshot_alone_is_never_answered_from_a_cache(spec: dict[str, Any]) -> None:
    cached = {
        name: task.get("cachingOptions", {}).get("enableCache", False)
        for name, task in spec["root"]["dag"]["tasks"].items()
    }
    assert cached.pop("snapshot") is False
    assert all(cached.values())


def test_each_step_has_its_image_and_one_argument_and_carries_no_code(spec: dict[str, Any]) -> None:
    executors = spec["deploymentSpec"]["executors"]
    found = {}
    for executor in executors.values():
        container = executor["container"]
        assert container["args"] == ["{{$}}"]
        assert container["command"][:3] == ["python3", "-m", "components"]
        assert "env" not in container
        found[container["command"][3]] = container["image"]
    assert found == {step: images.image(step) for step in images.STEPS}


def test_images_can_be_named_when_compiling(tmp_path: Path) -> None:
    spec = compiled(tmp_path, image=lambda step: f"registry.example/{step}@sha256:{'0' * 64}")
    used = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert used == {f"registry.example/{step}@sha256:{'0' * 64}" for step in images.STEPS}


def test_every_argument_has_its_default_from_the_settings(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    given = arguments(load("quickstart"))
    assert set(parameters) == set(given)
    for name, value in given.items():
        assert json.loads(json.dumps(parameters[name]["defaultValue"])) == json.loads(json.dumps(value)), name


def test_null_is_the_default_of_every_setting_that_can_be_null() -> None:
    """Null cannot travel through KFP, so it has to be what a step takes when it is given nothing."""
    for step in images.STEPS:
        model = type(getattr(load("quickstart"), step))
        for name, info in model.model_fields.items():
            nullable = type(None) in typing.get_args(info.annotation)
            assert not nullable or info.get_default(call_default_factory=True) is None, f"{step}.{name}"


def test_it_compiles_to_the_same_text_each_time(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        compiled(tmp_path / name)
        texts.append((tmp_path / name / "pipeline.yaml").read_text())
    assert texts[0] == texts[1]


def test_the_pipeline_holds_no_credential_and_no_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("STORE_SECRET_ACCESS_KEY", "canary-secret")
    text = json.dumps(compiled(tmp_path))
    assert "canary" not in text
    assert str(Path.home()) not in text


def test_source_references_change_with_the_sources_of_their_step_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "components"
    for step in images.STEPS:
        (copy / step).mkdir(parents=True)
        (copy / step / "step.py").write_text(step)
    (copy / "runtime.py").write_text("shared")
    monkeypatch.setattr(images, "_COMPONENTS", copy)
    before = {step: images.source_reference(step) for step in images.STEPS}
    assert all("@sha256:" in reference for reference in before.values())
    (copy / "crop" / "step.py").write_text("changed")
    after = {step: images.source_reference(step) for step in images.STEPS}
    assert [s for s in images.STEPS if before[s] != after[s]] == ["crop"]
    (copy / "runtime.py").write_text("changed")
    assert all(images.source_reference(s) != after[s] for s in images.STEPS)
