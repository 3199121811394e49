"""What more than one file here uses: one run of all steps, each with its own identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.images import STEPS
from tests.security.chain import Chain, publish_inputs
from tests.security.identities import served


@pytest.fixture(scope="package")
def chain(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Every step has run, each with its own identity: that it could is what the fixture shows."""
    with served(tmp_path_factory.mktemp("identities")) as identities:
        with identities.acting("push"):
            publish_inputs(tmp_path_factory.mktemp("boards"), tiny_base)
        made = Chain(identities, tmp_path_factory.mktemp("chain"))
        for step in STEPS:
            with identities.acting(step):
                made.call(step)
        yield made
