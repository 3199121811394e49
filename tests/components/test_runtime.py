"""The step boundary: ExecutorInput and flags in, one call, ExecutorOutput out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from components import runtime
from components.errors import Unavailable, UserError
from components.given_settings import override, read_yaml
from components.runtime import InputPath, OutputPath, Result
from components.settings import Settings


class Config(Settings):
    size: int = Field(4, ge=1, description="How many lines to write.")
    ratio: float = Field(0.5, gt=0, lt=1, description="A share.")


def shout(config: Config, name: str, words: InputPath, louder: OutputPath, page: OutputPath) -> Result:
    """Write the words in capitals."""
    text = words.read_text()
    if "bad" in text:
        raise UserError("words: bad language in line 1; remove it")
    if "gone" in text:
        raise Unavailable("the store does not answer")
    louder.mkdir(parents=True)
    (louder / "words.txt").write_text(f"{name} {text.upper()} {config.size}")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<p>")
    return Result(parameters={"length": len(text)}, metadata={"louder": {"ratio": config.ratio}})


def executor_input(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    (tmp_path / "words").write_text("hello")
    value: dict[str, Any] = {
        "inputs": {
            # KFP's numbers in a dict parameter are doubles.
            "parameterValues": {"config": {"size": 7.0}, "name": "n"},
            "artifacts": {"words": {"artifacts": [{"name": "words", "uri": str(tmp_path / "words")}]}},
        },
        "outputs": {
            "artifacts": {
                key: {"artifacts": [{"name": key, "uri": str(tmp_path / key), "type": {"schemaTitle": "t"}}]}
                for key in ("louder", "page")
            },
            "parameters": {"length": {"outputFile": str(tmp_path / "length")}},
            "outputFile": str(tmp_path / "out" / "executor_output.json"),
        },
    }
    value.update(changes)
    return value


def test_executor_input_becomes_one_call_and_an_executor_output(tmp_path: Path) -> None:
    assert runtime.main("shout", shout, [json.dumps(executor_input(tmp_path))]) == 0
    assert (tmp_path / "louder" / "words.txt").read_text() == "n HELLO 7"
    written = json.loads((tmp_path / "out" / "executor_output.json").read_text())
    assert written["parameterValues"] == {"length": 5}
    louder = written["artifacts"]["louder"]["artifacts"][0]
    assert louder["uri"] == str(tmp_path / "louder")
    assert louder["metadata"] == {"ratio": 0.5}
    assert written["artifacts"]["page"]["artifacts"][0]["metadata"] == {}


def test_flags_make_the_same_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words").write_text("hello")
    (tmp_path / "c.yaml").write_text("size: 2\nratio: 0.25\n")
    status = runtime.main(
        "shout",
        shout,
        ["--config", str(tmp_path / "c.yaml"), "--set", "size=3", "--name", "n"]
        + ["--words", str(tmp_path / "words"), "--louder", str(tmp_path / "l"), "--page", str(tmp_path / "p.html")],
    )
    assert status == 0
    assert (tmp_path / "l" / "words.txt").read_text() == "n HELLO 3"
    assert json.loads(capsys.readouterr().out) == {"length": 5}


def test_settings_of_another_step_are_given_by_a_file_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(config: Config, other_settings: Config) -> Result:
        """Give both sizes."""
        return Result(parameters={"own": config.size, "other": other_settings.size})

    (tmp_path / "o.yaml").write_text("size: 2\n")
    flags = ["--set", "size=3", "--other_settings", str(tmp_path / "o.yaml")]
    assert runtime.main("compare", compare, flags) == 0
    assert json.loads(capsys.readouterr().out) == {"own": 3, "other": 2}
    assert runtime.main("compare", compare, []) == 0
    assert json.loads(capsys.readouterr().out) == {"own": 4, "other": 4}
    (tmp_path / "o.yaml").write_text("sise: 2\n")
    assert runtime.main("compare", compare, flags) == 2
    assert "other_settings.sise: unknown setting; did you mean 'size'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"inputs": {}}, "parameter name: missing"),
        ({"inputs": None}, "artifact words: missing"),
        ({"outputs": {}}, "not a KFP ExecutorInput"),
        ({"outputs": []}, "not a KFP ExecutorInput"),
    ],
)
def test_an_incomplete_executor_input_is_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], expected: str
) -> None:
    assert runtime.main("shout", shout, [json.dumps(executor_input(tmp_path, **changes))]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_wrong_settings_are_named_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = executor_input(tmp_path)
    value["inputs"]["parameterValues"]["config"] = {"size": 0, "ratio": "half", "siez": 1}
    assert runtime.main("shout", shout, [json.dumps(value)]) == 2
    error = capsys.readouterr().err
    assert "shout.size: input should be greater than or equal to 1 (given: 0)" in error
    assert "shout.ratio" in error
    assert "did you mean 'size'?" in error
    assert not (tmp_path / "louder").exists()


@pytest.mark.parametrize(("word", "status"), [("bad", 2), ("gone", 75)])
def test_errors_become_exit_statuses_without_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, status: int
) -> None:
    value = json.dumps(executor_input(tmp_path))
    (tmp_path / "words").write_text(word)
    assert runtime.main("shout", shout, [value]) == status
    assert capsys.readouterr().err.startswith("error: shout: ")
    assert not (tmp_path / "out" / "executor_output.json").exists()


def test_an_output_that_cannot_be_written_is_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text("hello")
    (tmp_path / "file").write_text("")
    arguments = ["--name", "n", "--words", f"{tmp_path}/words", "--page", f"{tmp_path}/page"]
    assert runtime.main("shout", shout, [*arguments, "--louder", f"{tmp_path}/file/louder"]) == 2
    assert capsys.readouterr().err == (f"error: shout: {tmp_path}/file/louder: Not a directory; give another place\n")


def test_nan_metadata_is_a_defect_of_the_step(tmp_path: Path) -> None:
    def broken(page: OutputPath) -> Result:
        page.write_text("x")
        return Result(metadata={"page": {"loss": float("nan")}})

    # typing.get_type_hints looks names up in the function's module, not in this scope.
    broken.__annotations__ = {"page": OutputPath, "return": Result}
    with pytest.raises(RuntimeError, match="loss = nan"):
        runtime.main("broken", broken, ["--page", str(tmp_path / "page")])


def test_an_output_that_was_not_written_is_a_defect_of_the_step(tmp_path: Path) -> None:
    def lazy(page: OutputPath) -> None:
        return None

    lazy.__annotations__ = {"page": OutputPath, "return": None}
    with pytest.raises(RuntimeError, match="did not write its output page"):
        runtime.main("lazy", lazy, ["--page", str(tmp_path / "page")])


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/a/b", "/s3/bucket/a/b"),
        ("minio://mlpipeline/v2/x", "/minio/mlpipeline/v2/x"),
        ("gs://bucket/a", "/gcs/bucket/a"),
        ("/tmp/a", "/tmp/a"),
    ],
)
def test_artifact_uris_become_kfps_mount_paths(uri: str, path: str) -> None:
    assert runtime.local_path(uri) == Path(path)


def test_an_artifact_uri_of_another_scheme_is_refused() -> None:
    with pytest.raises(UserError, match="hdfs://x"):
        runtime.local_path("hdfs://x")


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["train.seed=1", "train.rates=[1, 2]"], {"train": {"seed": 1, "rates": [1, 2]}}),
        (["a=null", "b=yes please"], {"a": None, "b": "yes please"}),
        (["a.b=x=y"], {"a": {"b": "x=y"}}),
        (["a="], {"a": ""}),
    ],
)
def test_override_reads_values_as_yaml(assignments: list[str], expected: dict[str, Any]) -> None:
    assert override({}, assignments) == expected


@pytest.mark.parametrize("assignment", ["nothing", "=1", "a.=1", "a.b=1", "x=[1"])
def test_override_names_each_bad_assignment(assignment: str) -> None:
    with pytest.raises(UserError, match="--set"):
        override({"a": 3}, [assignment])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "a: 1\n\tb: 2\n"])
def test_yaml_that_is_no_mapping_is_a_users_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="x.yaml"):
        read_yaml(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_is_asked_to_end_cleans_up_and_says_so_by_its_status(tmp_path: Path, number: int) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from components import runtime\n"
        "def wait(page: runtime.OutputPath):\n"
        "    try:\n"
        "        print('ready', flush=True); time.sleep(30)\n"
        "    finally:\n"
        "        page.write_text('cleaned')\n"
        "runtime.heed_sigterm()\n"
        "sys.exit(runtime.main('wait', wait, ['--page', sys.argv[1]]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "page")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    assert time.monotonic() - started < 5
    assert (tmp_path / "page").read_text() == "cleaned"
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": [1]}, "is no mapping"),
        ({"config": "text"}, "is no mapping"),
        ({"name": {"a": 1}}, "parameter name: .* is no str"),
        ({"name": None}, "parameter name: None is no str"),
        ({"name": "https://user:secret@host"}, "parameter name: holds a user name"),
    ],
)
def test_a_value_of_another_kind_is_the_users_mistake(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    value = executor_input(tmp_path)
    value["inputs"]["parameterValues"] |= given
    with pytest.raises(UserError, match=message):
        runtime._run_executor_input("shout", shout, json.dumps(value))
    assert not (tmp_path / "louder").exists()
