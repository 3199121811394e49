"""Container components as processes of this machine: the seam into kfp.local, its cache, and its failures."""

import builtins
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local
from kfp.local import subprocess_task_handler

from pipelines import kfp_local
from pipelines.host_processes import HostProcesses
from pipelines.kfp_local import Log, StepFailed

#: A stand-in for the `components` package, so that the seam is tested without the steps: it writes its
#: executor output as the steps' runtime does, or fails as it is told.
PACKAGE = """
import json, os, sys
given = json.loads(sys.argv[2])
outputs = given["outputs"]
word = given["inputs"]["parameterValues"]["word"]
print("saying", word, os.environ.get("CANARY", ""), flush=True)
if word.startswith("exit"):
    sys.exit(int(word[4:]))
written = {}
for name, listed in (outputs.get("artifacts") or {}).items():
    artifact = listed["artifacts"][0]
    os.makedirs(os.path.dirname(artifact["uri"]), exist_ok=True)
    open(artifact["uri"], "w").write(word)
    written[name] = {"artifacts": [{**artifact, "metadata": {"n": 1.5}}]}
os.makedirs(os.path.dirname(outputs["outputFile"]), exist_ok=True)
with open(outputs["outputFile"], "w") as f:
    json.dump({"artifacts": written}, f)
"""


@dsl.container_component
def first(word: str, said: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image="a@sha256:1", command=["python3", "-m", "components", "first"], args=["{{$}}"])


@dsl.container_component
def second(word: str, before: dsl.Input[dsl.Dataset], said: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image="a@sha256:2", command=["python3", "-m", "components", "second"], args=["{{$}}"])


@dsl.pipeline(name="two-steps")
def two(word: str, last: str) -> dsl.Dataset:
    a = first(word=word)
    return second(word=last, before=a.outputs["said"]).outputs["said"]


@dsl.container_component
def draw(word: str, shard: int):
    return dsl.ContainerSpec(image="a@sha256:3", command=["python3", "-m", "components", "draw"], args=["{{$}}"])


@dsl.container_component
def evaluate(word: str, said: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image="a@sha256:3", command=["python3", "-m", "components", "evaluate"], args=["{{$}}"])


@dsl.pipeline(name="in-shards")
def in_shards(word: str) -> dsl.Dataset:
    with dsl.ParallelFor([0, 1, 2]) as shard:
        drawn = draw(word=word, shard=shard)
    return evaluate(word=word).after(drawn).outputs["said"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "path" / "components"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text(PACKAGE)
    monkeypatch.chdir(folder.parent)
    return tmp_path


def run(folder: Path, word: str, last: str = "bye") -> tuple[dict[str, Any], Log, str]:
    stream = io.StringIO()
    record = Log(order=("first", "second"), stream=stream)
    runner = HostProcesses({"CANARY": "tweet"})
    outputs = kfp_local.run_pipeline(
        two, {"word": word, "last": last}, str(folder / "root"), str(folder / "cache"), runner, record
    )
    return outputs, record, stream.getvalue()


@pytest.mark.parametrize("kind", [local.SubprocessRunner, local.DockerRunner])
def test_the_seam_still_fits(kind: type) -> None:
    kfp_local.check_seam(kind)


def test_a_moved_seam_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, image: str) -> None: ...

    monkeypatch.setattr(subprocess_task_handler, "SubprocessTaskHandler", Other)
    with pytest.raises(RuntimeError, match=r"Pin kfp to 2\.17\.0"):
        kfp_local.check_seam(local.SubprocessRunner)


def test_container_components_run_as_processes_with_metadata_and_environment(package: Path) -> None:
    outputs, record, text = run(package, "hello")
    artifact = next(iter(outputs.values()))
    assert Path(artifact.uri).read_text() == "bye"
    assert artifact.metadata == {"n": 1.5}
    assert [r.step for r in record.runs] == ["first", "second"]
    assert all(r.peak_bytes > 1_000_000 for r in record.runs)
    assert "saying hello tweet" in text


def test_what_has_not_changed_is_answered_from_the_cache_and_shown_as_such(package: Path) -> None:
    run(package, "hello")
    _, record, text = run(package, "hello")
    assert record.runs == []
    assert text.count("cached") == 2
    _, record, text = run(package, "hello", last="other")
    assert [r.step for r in record.runs] == ["second"]
    assert text.index("first") < text.index("cached") < text.index("second")


@pytest.mark.parametrize("status", [1, 2, 75])
def test_a_failing_step_stops_the_run_with_its_status(package: Path, status: int) -> None:
    with pytest.raises(StepFailed) as caught:
        run(package, f"exit{status}")
    assert caught.value.run.step == "first"
    assert caught.value.run.status == status


def test_a_failed_step_is_not_cached(package: Path) -> None:
    for _ in range(2):
        with pytest.raises(StepFailed):
            run(package, "exit1")


def test_kfps_own_handler_is_put_back(package: Path) -> None:
    original = subprocess_task_handler.SubprocessTaskHandler
    with pytest.raises(StepFailed):
        run(package, "exit1")
    assert subprocess_task_handler.SubprocessTaskHandler is original


def test_python3_is_this_interpreter(package: Path) -> None:
    (package / "path" / "components" / "__main__.py").write_text(
        "import sys; print('interpreter', sys.executable)\n" + PACKAGE
    )
    _, _, text = run(package, "hello")
    assert f"interpreter {sys.executable}" in text


def test_step_failed_says_which(package: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        run(package, "exit3")
    assert json.loads(str(caught.value)) == {"step": "first", "status": 3}


def test_shards_of_a_step_run_before_it_and_are_cached_like_it(package: Path) -> None:
    before = builtins.print, logging.getLogger().handlers[:]
    for runs in (["draw", "draw", "draw", "evaluate"], []):
        record = Log(order=("evaluate",), stream=io.StringIO())
        places = (str(package / "root"), str(package / "cache"))
        kfp_local.run_pipeline(in_shards, {"word": "hello"}, *places, HostProcesses({}), record)
        assert [run.step for run in record.runs] == runs
    # kfp changes both for each task, and tasks at the same time would leave each other's changes behind.
    assert (builtins.print, logging.getLogger().handlers) == before
