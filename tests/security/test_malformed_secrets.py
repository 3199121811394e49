"""Secrets that no request can carry are refused by the names of their variables: the HTTP client would repeat them."""

from __future__ import annotations

import itertools
import json
import re
import traceback
from pathlib import Path

import pytest

from components import runtime
from components.__main__ import load
from components.errors import UserError
from components.storage import Store
from pipelines.remote import access
from pipelines.remote.server import connected
from tests.security.canaries import PASSWORD
from tests.security.test_secrets import assert_silent

#: Secrets that no header can carry: of two lines, pasted with a blank, by a word processor, with control characters.
MALFORMED = (f"{PASSWORD}\nxx", f"{PASSWORD} xx", f"{PASSWORD}…", f"{PASSWORD}\x7f", f"{PASSWORD}\x1b[31m")
GOOD = {"STORE_ENDPOINT_URL": "http://127.0.0.1:1", "STORE_ACCESS_KEY_ID": "key", "STORE_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *itertools.product(("STORE_ACCESS_KEY_ID", "STORE_SESSION_TOKEN"), MALFORMED),
        # Not sent: any line will do.
        *(("STORE_SECRET_ACCESS_KEY", value) for value in MALFORMED if not value.isprintable()),
    ],
)
def test_keys_of_the_store_that_cannot_be_sent_are_refused_by_their_names(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, good in (GOOD | {variable: value}).items():
        monkeypatch.setenv(name, good)
    flags = [f"--{key}={tmp_path / key}" for key in ("crops", "report")]
    arguments = ["--dataset", "s3://bucket/x", "--dataset_revision=", *flags]
    assert runtime.main("crop", load("crop"), arguments) == UserError.status
    said = capsys.readouterr()
    assert re.search(f"{variable}: holds a (blank, a line break or another|line break or another control)", said.err)
    assert_silent(said.out + said.err)
    with pytest.raises(UserError) as caught:
        Store.from_env("s3://bucket/x", GOOD | {variable: value}).get_bytes("y")
    assert_silent("".join(traceback.format_exception(caught.value)))


def test_a_newline_at_the_end_of_a_mounted_secret_is_taken_off() -> None:
    given = {name: f"{value}\n" for name, value in GOOD.items()} | {"STORE_SESSION_TOKEN": "token\n"}
    found = Store.from_env("s3://bucket", given).connection._access.provider.retrieve()
    assert (found.access_key, found.secret_key, found.session_token) == ("key", "secret", "token")


@pytest.mark.parametrize("value", [f"{PASSWORD}\n  xx", f"{PASSWORD}…"])
def test_keys_in_the_users_aws_file_that_cannot_be_sent_are_refused(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = key\naws_secret_access_key = x\naws_session_token = {value}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(UserError, match="the user's AWS file") as caught:
        Store.from_env("s3://bucket", {"STORE_ENDPOINT_URL": "http://127.0.0.1:1"}).get_bytes("y")
    assert_silent("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_token_of_the_hub_that_cannot_be_sent_is_refused_by_its_name(
    value: str, by_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from components import hub

    (tmp_path / "token").write_text(value if by_file else "", "utf-8")
    monkeypatch.setenv("HF_TOKEN", "" if by_file else value)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    place = hub.parse("hf://owner/name")
    for ask in (lambda: hub.look(place), lambda: hub.fetch(place, ["*.json"], tmp_path / "spare")):
        with pytest.raises(UserError, match="token: holds a" if by_file else "HF_TOKEN: holds a") as caught:
            ask()
        assert_silent("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("variable", ["KFP_EXISTING_TOKEN", "KFP_COOKIE", "KF_PIPELINES_SA_TOKEN_PATH"])
def test_what_opens_kubeflow_pipelines_and_cannot_be_sent_is_refused_by_its_name(
    variable: str, value: str, tmp_path: Path
) -> None:
    if variable == "KFP_COOKIE" and " " in value:
        # Several cookies are given with blanks between them.
        value = f"{PASSWORD}\r\nHost: x"
    file = tmp_path / "token"
    file.write_text(value, "utf-8")
    given = {"KFP_EXISTING_TOKEN": value, "KFP_COOKIE": f"session={value}", "KF_PIPELINES_SA_TOKEN_PATH": str(file)}
    environ = {"KF_PIPELINES_ENDPOINT": "http://127.0.0.1:1", variable: given[variable]}
    with (
        pytest.raises(UserError, match="holds a") as caught,
        connected(access.from_flags(access.flags().parse_args([]), environ)),
    ):
        pass
    assert str(caught.value).startswith(f"{file}: " if variable.endswith("_PATH") else f"{variable}: ")
    assert_silent("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize(
    "url",
    [f"https://hooks.example/services/{value}" for value in MALFORMED]
    + [f"http://[x/{PASSWORD}", f"http://127.0.0.1:abc/{PASSWORD}", f"http://hooks..example/{PASSWORD}"],
)
def test_an_address_of_a_webhook_that_cannot_be_asked_is_refused_by_its_name(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WEBHOOK_URL", url)
    values = {"status": {"state": "FAILED"}, "run_id": "1", "run_name": "n", "page": "", "only_failures": False}
    given = {"inputs": {"parameterValues": values}, "outputs": {"outputFile": str(tmp_path / "o")}}
    assert runtime.main("notify", load("notify"), [json.dumps(given)]) == UserError.status
    said = capsys.readouterr()
    assert said.err.startswith("error: notify: WEBHOOK_URL: holds ")
    assert_silent(said.out + said.err)
