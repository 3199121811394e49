"""Settings: unknown keys, wrong values, and that all of them are named at once."""

from __future__ import annotations

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


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Outer().steps = 3  # type: ignore[misc]
