"""Settings: unknown keys, wrong values, and that all of them are named at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field, ValidationError

from components.errors import SettingsError
from components.settings import Settings, decode


class Inner(Settings):
    rate: float = Field(1e-3, gt=0)


class Outer(Settings):
    steps: int = Field(10, ge=1)
    inner: Inner = Inner()
    name: str = "x"


def test_whole_doubles_are_integers_as_kfp_sends_them() -> None:
    assert decode(Outer, {"steps": 7.0}, "") == Outer(steps=7)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"steps": 7.5}, "steps"),
        ({"stesp": 7}, "did you mean 'steps'"),
        ({"inner": {"rat": 1}}, "inner.rat: unknown setting; did you mean 'rate'? known here: rate"),
        ({"inner": {"rate": float("nan")}}, "inner.rate"),
        ({"inner": {"rate": float("inf")}}, "inner.rate"),
        ({"inner": 3}, "inner"),
        ({"name": None}, "name"),
    ],
)
def test_a_mistake_names_key_and_remedy(data: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        decode(Outer, data, "")
    assert expected in str(caught.value)


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        decode(Outer, {"steps": 0, "other": 1, "inner": {"rate": -1}}, "file.yaml")
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("file.yaml.") for problem in caught.value.problems)


def test_of_very_many_mistakes_the_first_are_told() -> None:
    with pytest.raises(SettingsError) as caught:
        decode(Outer, {f"k{i}": 1 for i in range(20_000)}, "file.yaml")
    assert len(caught.value.problems) == 20_000
    assert len(str(caught.value)) < 5000
    assert str(caught.value).endswith("and 19,980 more")


@pytest.mark.parametrize("data", [{"\x1b[31m": 1}, {"name": "x", "\u202e": 1}, {"steps": "\x1b[31m"}, {"a\nb": 1}])
def test_a_mistake_is_told_without_what_a_terminal_would_act_on(data: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        decode(Outer, data, "")
    assert str(caught.value).isprintable()


def test_a_long_key_leaves_room_for_what_is_wrong_with_it() -> None:
    with pytest.raises(SettingsError, match="x…: unknown setting; known here: inner, name, steps"):
        decode(Outer, {"x" * 5000: 1}, "")


@pytest.mark.parametrize("data", [{"name": "\ud800"}, {"\ud800": 1}, {"inner": {"rate": ["\ud800"]}}])
def test_half_a_surrogate_pair_is_no_text(data: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"'\\ud800' is no valid text; correct it"):
        decode(Outer, data, "")


@pytest.mark.parametrize("nest", [lambda value: {"a": value}, lambda value: [value]])
def test_settings_below_settings_without_end_are_refused(nest: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range(2000):
        value = nest(value)
    with pytest.raises(SettingsError, match="settings below settings, 20 levels deep"):
        decode(Outer, {"inner": value}, "")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Outer().steps = 3  # type: ignore[misc]
