"""This process's environment without a store of its own: what the tests' processes and functions are given."""

from __future__ import annotations

import os

import pytest

#: How the variables begin that say where a store is and with which keys.
STORE = ("STORE_", "AWS_")


def without_store() -> dict[str, str]:
    """The environment but for the variables of a store."""
    return {name: value for name, value in os.environ.items() if not name.startswith(STORE)}


def forget_store(patch: pytest.MonkeyPatch) -> None:
    """Take the variables of a store out of the environment, for as long as `patch` lasts."""
    for name in os.environ.keys() - without_store().keys():
        patch.delenv(name)
