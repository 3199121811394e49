"""Credentials are in nothing that a command says or leaves, least of all where it fails.

That a whole run leaves none is in ``tests/pipelines/test_end_to_end.py``, which makes the run.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import runtime
from components.__main__ import load
from components.artifacts import CheckpointIndex, CheckpointRef, write_json
from components.errors import Unavailable, UserError, holds_credentials, without_credentials
from components.storage import Store, connection
from pipelines.__main__ import main
from pipelines.embedded_store import EmbeddedStore
from tests.components.convert.examples import checkpoint_index, decision
from tests.components.evaluate.examples import write_crop_set
from tests.hub_server import HubServer
from tests.security.canaries import PASSWORD, PLANTED, USER, files_with, found_in

SECRETS = PLANTED | {"password": PASSWORD}
#: Places with credentials as users write them.
PLACES = (
    f"dvc+https://{USER}:{PASSWORD}@host/team/boards.git?path=data",
    f"dvc+https://{PASSWORD}@host/team/boards.git?path=data",
    f"dvc+ssh://git:{PASSWORD}@host/team/boards.git?path=data",
    f"dvc+https://host/team/boards.git?path=data&access_token={PASSWORD}",
    f"s3://{USER}:{PASSWORD}@bucket/prefix",
    f"s3://{USER}:{PASSWORD}/with+slash@bucket/prefix",
    f"https://{USER}:{PASSWORD}@host/bucket",
    f"https://host/bucket/model.safetensors?X-Amz-Signature={PASSWORD}&X-Amz-Date=1",
    f"hf://{PASSWORD}@owner/name",
    f"https://account.blob.core.windows.net/container?sv=1&sig={PASSWORD}",
    f"s3://bucket/prefix?sas={PASSWORD}",
    f"https://host/model?code={PASSWORD}&x=1",
    f"https://host/model?x-auth={PASSWORD}",
    f"https://host/model#access_token={PASSWORD}&token_type=bearer",
    f"https://host/model;token={PASSWORD}",
    f"https://host/model?a=1&jwt={PASSWORD}",
    f"AccountName=me;AccountKey={PASSWORD};EndpointSuffix=core.windows.net",
)
#: Places without any, which must stay usable.
PLAIN = (
    "s3://defect-diffusion/datasets/boards@20261124T192335Z-5205340ad2c5",
    "hf://owner/name@v1.0",
    "dvc+ssh://git@host/team/boards.git?path=data&rev=v1",
    "/data/a@b/boards",
    "a photo of a short: circuit @ 50 %",
    "dvc+https://host/team/design.git?path=barcode&rev=authors",
    "https://host/page?author=me&design=3&encode=x",
    "s3://bucket/key=1&code=7/x",
    "part_?code=(.)",
)


def assert_silent(said: str, folder: Path | None = None) -> None:
    assert found_in(said.encode(), SECRETS) == [], said
    if folder is not None:
        assert files_with(folder, SECRETS) == {}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_holds_credentials_is_known(place: str) -> None:
    assert holds_credentials(place)
    assert_silent(without_credentials(f"error: '{place}': it is there (see {place}), again"))


@pytest.mark.parametrize("place", PLAIN)
def test_a_place_that_holds_none_is_left_as_it_is(place: str) -> None:
    assert not holds_credentials(place)
    assert str(UserError(f"{place}: not there")) == f"{place}: not there"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["a.", "a://", "a://b:", "@", "?token", "&key-", "ssh+"])
def test_no_text_takes_long_to_look_through(part: str) -> None:
    assert isinstance(without_credentials(part * 60_000), str)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", ["dataset", "base_model", "store", "evaluate.extractors", "no_such_key"])
def test_credentials_in_a_setting_never_reach_the_pipelines_yaml(
    key: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "--output", str(tmp_path / "pipeline.yaml"), "--set", f"{key}='{place}'"]) == 2
    said = capsys.readouterr()
    assert key in said.err
    assert_silent(said.out + said.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["train", "https://host/a", "x" * 150])
def test_credentials_that_reach_past_what_a_message_repeats_are_not_begun(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A message repeats 200 characters of a key and of an assignment, and 120 of a value.
    secret = f"https://{USER}:{PASSWORD * 20}@host/x"
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps({f"{key} {secret}": 1, "dataset": f"{key} {secret}"}))
    for flags in (["--params", str(mine)], ["--set", f"{key} {secret}"], ["--set", f"{key}=[ {secret}"]):
        assert main(["settings", *flags]) == 2
        said = capsys.readouterr()
        assert_silent(said.out + said.err)


def test_the_pipelines_yaml_holds_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    made = tmp_path / "pipeline.yaml"
    assert main(["compile", "--output", str(made), "--profile", "kind", "--set", "store=s3://bucket"]) == 0
    assert made.stat().st_size > 1000
    said = capsys.readouterr()
    assert_silent(said.out + said.err, tmp_path)


@pytest.mark.parametrize("place", PLACES)
def test_a_step_refuses_credentials_in_a_parameter_of_either_interface(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {key: {"artifacts": [{"uri": str(tmp_path / key)}]} for key in ("crops", "report")}
    values = {"config": {}, "dataset": place, "dataset_revision": ""}
    given = {
        "inputs": {"parameterValues": values},
        "outputs": {"artifacts": outputs, "outputFile": str(tmp_path / "o")},
    }
    flags = [f"--{key}={tmp_path / key}" for key in outputs]
    for arguments in ([json.dumps(given)], ["--dataset", place, "--dataset_revision=", *flags]):
        assert runtime.main("crop", load("crop"), arguments) == UserError.status
        said = capsys.readouterr()
        assert "dataset: holds a user name, a password or a token" in said.err
        assert_silent(said.out + said.err, tmp_path)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STORE_ENDPOINT_URL", f"https://{USER}:{PASSWORD}@host:9000"),
        ("STORE_ENDPOINT_URL", f"{USER}:{PASSWORD}@host:9000"),
        ("STORE_ENDPOINT_URL", f"http://[{USER}:{PASSWORD}@host"),
    ],
)
def test_an_address_of_the_store_with_credentials_is_not_repeated(variable: str, value: str) -> None:
    with pytest.raises(UserError, match=variable) as caught:
        Store.from_env("s3://bucket", {variable: value})
    assert_silent("".join(traceback.format_exception(caught.value)))


def test_an_address_of_the_hub_with_credentials_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from components import hub

    monkeypatch.setenv("HF_ENDPOINT", f"http://{USER}:{PASSWORD}@127.0.0.1:1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "_RETRIES", 0)
    with pytest.raises(Unavailable) as caught:
        hub.look(hub.parse("hf://owner/name"))
    assert_silent("".join(traceback.format_exception(caught.value)))


def test_a_token_of_the_hub_is_sent_and_not_said(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from components import hub as hubs

    monkeypatch.setenv("HF_TOKEN", PLANTED["HF_TOKEN"])
    fetched = hubs.fetch(hubs.parse("hf://maker/tiny"), ["*.json"], tmp_path / "spare")
    with pytest.raises(UserError) as caught:
        hubs.look(hubs.parse("hf://maker/other"))
    said = capsys.readouterr()
    assert_silent(said.out + said.err + "".join(traceback.format_exception(caught.value)), tmp_path / "hf")
    assert fetched.is_dir()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Step → flags that are right, but for a store that nobody can use."""
    folder = tmp_path_factory.mktemp("given")
    home = "s3://defect-diffusion/secrets"
    index: CheckpointIndex = checkpoint_index(f"{home}/base-models/x", [CheckpointRef(0, None, [])])
    counts = {name: {"train": 6, "reference": 6} for name in ("bar", "pin hole")}
    crops = write_crop_set(folder / "crops", counts)
    index = dataclasses.replace(index, crops_digest="d" * 64, prompts={name: f"a photo of a {name}" for name in counts})
    write_json(folder / "index" / "index.json", index)
    write_json(folder / "best" / "best.json", decision(index, 0))
    measured = decision(index, 0)
    write_json(
        folder / "metrics" / "metrics.json",
        {
            "schema": 1,
            "checkpoints": [measured.base],
            "floor": measured.floor,
            "floor_per_class": {},
            "higher_is_better": {"kd_lite0": False},
            "absent": {},
            "extractor": {},
            "generation": {},
            "crops_digest": "d" * 64,
        },
    )
    out, place = folder / "out", f"--store={home}"
    return {
        "snapshot": [f"--dataset={home}/d", f"--base_model={home}/b", "--model_name=m", place],
        "crop": [f"--dataset={home}/d", "--dataset_revision=", f"--crops={out}/c", f"--report={out}/r.html"],
        "train": [
            *(f"--crops={crops}", f"--base_model={home}/b", "--base_revision=b", "--generation=g", place),
            *(f"--checkpoints={out}/k", f"--metrics={out}/m", f"--report={out}/r.html"),
        ],
        "evaluate": [
            *(f"--crops={crops}", f"--checkpoints={folder}/index", place, "--set=images_per_class=4"),
            *(f"--metrics={out}/m", f"--report={out}/r.html"),
        ],
        "select_best": [
            *(f"--metrics={folder}/metrics", f"--checkpoints={folder}/index", place),
            *(f"--best={out}/b", f"--decision={out}/d.html"),
        ],
        "convert": [f"--best={folder}/best", "--model_name=m", f"--model={out}/m", place],
    }


Spoil = Callable[[dict[str, str]], dict[str, str]]
SPOILT: dict[str, tuple[Spoil, int]] = {
    "a wrong secret": (lambda good: good | {"STORE_SECRET_ACCESS_KEY": PLANTED["AWS_SECRET_ACCESS_KEY"]}, 2),
    "a wrong key": (lambda good: good | {"STORE_ACCESS_KEY_ID": PLANTED["AWS_ACCESS_KEY_ID"]}, 2),
    "a token of another's": (lambda good: good | {"STORE_SESSION_TOKEN": PLANTED["STORE_SESSION_TOKEN"]}, 2),
    "a store that is gone": (lambda good: good | PLANTED | {"STORE_ENDPOINT_URL": "http://127.0.0.1:1"}, 75),
}


@pytest.mark.integration
@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("step", ["snapshot", "crop", "train", "evaluate", "select_best", "convert"])
def test_a_step_that_cannot_use_its_store_says_so_with_its_status_and_without_credentials(
    step: str, spoilt: str, given: dict[str, list[str]], embedded_store: EmbeddedStore,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.3)
    spoil, status = SPOILT[spoilt]
    environ: dict[str, Any] = spoil(dict(embedded_store.environ))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert runtime.main(step, load(step), given[step]) == status
    said = capsys.readouterr()
    assert "error: " in said.err
    assert "Traceback" not in said.out + said.err
    kept = SECRETS | {"the store's secret": embedded_store.environ["STORE_SECRET_ACCESS_KEY"]}
    assert found_in((said.out + said.err).encode(), kept) == []


@pytest.mark.integration
def test_the_traceback_of_a_refusal_holds_no_credentials(embedded_store: EmbeddedStore) -> None:
    environ = embedded_store.environ | {"STORE_SECRET_ACCESS_KEY": PLANTED["AWS_SECRET_ACCESS_KEY"]}
    with pytest.raises(UserError) as caught:
        Store.from_env("s3://defect-diffusion/x", environ).get_bytes("y")
    assert_silent("".join(traceback.format_exception(caught.value)))
