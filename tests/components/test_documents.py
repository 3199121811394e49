"""JSON and YAML from outside: values, or one kind of error that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.documents import MOST_VALUES, parse_json, parse_yaml, shown
from components.errors import UserError
from components.given_settings import read_yaml
from pipelines.config import load

#: A few lines that stand for 10⁹ values.
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
WRONG = {
    "no YAML": ("a: [1\nb: 2", "line 2: "),
    "a bomb": (LAUGHS, f"stands for more than {MOST_VALUES:,} values"),
    "a merged bomb": (LAUGHS.replace("[", "{k: [").replace("]", "]}") + "b: {<<: *a8}", "stands for more than"),
    "a value that holds itself": ("a: &a [*a]", "line 1: a value that holds itself"),
    "a day that there is none of": ("a: 2026-99-99", "month must be in 1..12"),
    "a time that is none": ("a: !!timestamp x", "NoneType"),
    "an empty integer": ("a: !!int ''", "index out of range"),
    "a truth that is none": ("a: !!bool x", "x"),
    "an integer without end": ("a: 0x" + "f" * 5000, "line 1: an integer of too many digits"),
    "a list as a key": ("? [a]\n: b", "unhashable"),
    "brackets without end": ("[" * 1500, "nested too deeply"),
    "a key twice": ("a: 1\nb: 2\n'a': 3", "line 3: the key 'a' is given twice, first in line 1; keep one"),
    "a key twice below": ("a: {x: 1, y: {z: 1, z: 1}}", "line 1: the key 'z' is given twice"),
    "a number twice": ("a: {1: x, 0x1: y}", "line 1: the key 1 is given twice"),
    "a key twice beside a merge": ("a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}", "line 2: the key 'y' is given twice"),
    "an object of Python's": ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_value_is_one_kind_of_error(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml: not valid YAML: "):
        load(str(tmp_path / "mine.yaml"))
    if "\n" not in text:
        with pytest.raises(UserError, match="--set train="):
            load("quickstart", [f"train={{{text}}}" if text.startswith("a: ") else f"train={text}"])


def test_references_and_dates_are_read(tmp_path: Path) -> None:
    assert parse_yaml("a: &a [1, x]\nb: *a\nc: {<<: {d: 2}}") == {"a": [1, "x"], "b": [1, "x"], "c": {"d": 2}}
    assert parse_yaml("") is None
    # What is taken over with << may be given anew, and may have been taken over itself.
    merged = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, x: 3}\nd: {<<: [*a, *b], <<: *b}\ne: {1: a, '1': b}"
    assert parse_yaml(merged) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 3, "y": 2},
        "d": {"x": 1, "y": 2},
        "e": {1: "a", "1": "b"},
    }
    # A date where a text belongs is the setting's mistake, and found with the others.
    (tmp_path / "mine.yaml").write_text("dataset: 2026-01-02\ntrain: {sed: 1}\n")
    with pytest.raises(UserError, match=r"(?s)dataset: .*string.*train\.sed: unknown") as caught:
        load(str(tmp_path / "mine.yaml"), ["train.seed=1"])
    assert len(caught.value.problems) == 2


def test_a_device_without_end_is_no_file_of_settings() -> None:
    with pytest.raises(UserError, match="larger than 256 KiB"):
        read_yaml(Path("/dev/zero"))


def test_two_blocks_of_one_step_are_refused_with_their_lines(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train: {max_train_steps: 400, seed: 7}\ncrop: {resolution: 64}\ntrain: {learning_rate: 0.001}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: .*line 3: the key 'train' is given twice, first in line 1"):
        load(str(mine))
    with pytest.raises(UserError, match="--set train="):
        load("quickstart", ["train={seed: 1, seed: 2}"])


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "", "[" * 100_000, '{"a": ' * 100_000, "9" * 5000, b"\xff", "{'a': 1}"]
)
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_json(text)


@pytest.mark.timeout(60)
def test_a_key_given_twice_among_very_many_is_found_soon() -> None:
    keys = ",".join(f'"{i}": 0' for i in range(200_000))
    with pytest.raises(ValueError, match="the key 'last' is given twice, and only the last one would count"):
        parse_json(f'{{{keys}, "last": 1, "last": 2}}')


def test_a_value_is_shown_on_one_line_and_cut() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 10_000)) <= 120
    assert len(shown([["x" * 100] * 100] * 100)) <= 120
