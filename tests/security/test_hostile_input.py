"""Whatever comes from outside, it ends in a value or in an error for the user: no traceback, no hang, none outside."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.crop.config import CropConfig
from components.errors import Unavailable, UserError
from components.storage import Store
from tests.security.fuzz.mutations import ODD, WORD
from tests.security.fuzz.targets import HEAVY, TARGETS, seeds_of

ALL = TARGETS | HEAVY


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A good input with a few bytes removed, repeated or replaced; rarely bytes of no kind."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(seeds_of(name))))
    for _ in range(draw(st.integers(1, 4))):
        words = [match.span() for match in WORD.finditer(bytes(data))]
        at_a_word: bool = draw(st.booleans())
        if words and at_a_word:
            start, end = draw(st.sampled_from(words))
        else:
            start = draw(st.integers(0, len(data)))
            end = min(len(data), start + draw(st.integers(0, 12)))
        data[start:end] = draw(
            st.one_of(st.sampled_from(ODD), st.binary(max_size=4), st.just(bytes(data[start:end]) * 2))
        )
    return bytes(data)


@pytest.mark.parametrize("name", ALL)
def test_bytes_from_outside_end_in_a_value_or_in_an_error_for_the_user(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    above = tmp_path_factory.mktemp("outside")
    folder = above / "a" / "b"
    folder.mkdir(parents=True)

    @settings(
        max_examples=40,
        deadline=timedelta(seconds=20),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(name))
    def holds(data: bytes) -> None:
        try:
            ALL[name].read(data, folder)
        except (UserError, Unavailable) as error:
            said.append(len(str(error)))

    said: list[int] = []
    holds()
    assert all(0 < length < 20_000 for length in said)
    assert [*above.iterdir(), *(above / "a").iterdir()] == [above / "a", folder]


@pytest.mark.parametrize("name", ALL)
def test_good_bytes_are_read(name: str, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    for number, data in enumerate(seeds_of(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        said = _said(name, data, folder)
        assert not said or (ALL[name].ends and re.search(ALL[name].ends, said)), said


def _said(name: str, data: bytes, folder: Path) -> str:
    """The error that reading ends with; empty where it ends with a value."""
    try:
        ALL[name].read(data, folder)
    except UserError as error:
        return str(error)
    return ""


#: Inputs that ended in a traceback once: target and bytes.
FOUND = {
    "a date": ("settings", b"dataset: 2026-01-02"),
    "a setting without end": ("settings", b"train: {seed: 0x" + b"f" * 5000 + b"}"),
    "a date in a flag": ("assignments", b"train.seed=2026-99-99"),
    "names that are a day": ("annotations-yolo-names", b"names: 2026-99-99"),
    "a name without end": ("annotations-yolo-names", b"names: {0: 0x" + b"f" * 5000 + b"}"),
    "parameters in a list": (
        "executor-input",
        b'{"inputs": {"parameterValues": [1]}, "outputs": {"outputFile": "/x"}}',
    ),
    "settings in a list": (
        "executor-input",
        b'{"inputs": {"parameterValues": {"config": [1]}}, "outputs": {"outputFile": "/x"}}',
    ),
    "an argument without end": ("executor-input", b'{"a":' * 100_000),
    "a manifest without end": ("stored", b"\0" + b"[" * 100_000),
    "a month that there is none of": (
        "stored",
        b'\1{"schema": 1, "version": "22001601T000000Z-000000000000", "file": "f", "sha256": ""}',
    ),
    "a listing of the remote without end": ("dvc", b"outs: " + b"[" * 3000),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_ended_in_a_traceback_once_is_an_error_for_the_user(name: str, tmp_path: Path) -> None:
    target, data = FOUND[name]
    with pytest.raises(UserError):
        ALL[target].read(data, tmp_path)


@pytest.mark.parametrize("revision", ["../x", "a/b", "/", "a\\b", "\n"])
def test_a_revision_that_can_be_no_part_of_a_key_is_refused(revision: str) -> None:
    from components.crop.record import Record
    from components.train.run import base_tree

    environ = {"STORE_ENDPOINT_URL": "http://127.0.0.1:1", "STORE_ACCESS_KEY_ID": "k", "STORE_SECRET_ACCESS_KEY": "s"}
    with pytest.raises(UserError, match="base_revision: "):
        base_tree(Store.from_env("s3://bucket", environ), revision)
    with pytest.raises(UserError, match="dataset_revision: "):
        Record("s3://bucket", revision, CropConfig())
