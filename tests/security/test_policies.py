"""Each step does its work with the rights of its own policy, and with another's ends in a message that says which is
missing."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from components import runtime
from components.errors import UserError
from components.models import catalog
from components.runtime import Result
from components.storage import Store
from pipelines.cleanup import command as cleanup
from tests.security.chain import HOME, Chain
from tests.security.identities import NAMES, OWNER, POLICIES

pytestmark = pytest.mark.integration


def test_every_step_does_its_work_with_the_rights_of_its_policy(chain: Chain) -> None:
    assert (chain.out / "model" / "model.json").is_file()
    with chain.identities.acting("generate"):
        models = Store.from_env(HOME).at("models", "boards")
        found = catalog.latest(models)
        assert found is not None
        models.at(found.version).get_tree(chain.out / "fetched")


@pytest.mark.parametrize(
    ("step", "identity", "missing"),
    [
        ("snapshot", "select_best", r"s3://defect-diffusion/datasets/boards/DATASET\.json: .* permission s3:GetObject"),
        ("crop", "snapshot", r"s3://defect-diffusion/crop/\S+: .* permission s3:PutObject"),
        ("train", "crop", r"s3://defect-diffusion/leases/run-\S+: .* permission s3:PutObject"),
        ("evaluate", "convert", r"s3://defect-diffusion/\S+: .* permission s3:(Get|Put)Object"),
        ("select_best", "crop", r"s3://defect-diffusion/train/\S+/decision\.json: .* permission s3:PutObject"),
        ("convert", "evaluate", r"s3://defect-diffusion/models/boards/\S+: .* permission s3:PutObject"),
    ],
)
def test_a_step_that_tries_more_says_which_permission_is_missing_and_where(
    chain: Chain, step: str, identity: str, missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    with chain.identities.acting(OWNER):
        before = {info.key for info in Store.from_env(HOME).list("models/")}
    with chain.identities.acting(identity):

        def attempt() -> Result:
            return chain.call(step, tmp_path / "out") or Result()

        assert runtime.main(step, attempt, []) == UserError.status
    said = capsys.readouterr()
    assert re.search(missing, said.err), said.err
    assert "Traceback" not in said.out + said.err
    assert not (tmp_path / "out" / "model").exists()
    with chain.identities.acting(OWNER):
        assert {info.key for info in Store.from_env(HOME).list("models/")} == before


#: Who may write and delete below each place: what a stolen key of a step is worth.
WRITERS = {
    "models/boards/20260101T000000Z-000000000000/x": {"convert"},
    "models/boards/latest.json": {"convert", "promote"},
    "datasets/boards/objects/x": {"push"},
    "datasets/boards/DATASET.json": {"push"},
    "base-models/other/x": {"push", "train"},
    "train/run/attempt/step-000001/x": {"train"},
    "train/run/reports/x": {"train", "evaluate", "select_best"},
    "GENERATION": {"snapshot", "gc"},
    "elsewhere/x": set(),
}
DELETERS = {
    "models/boards/20260101T000000Z-000000000000/x": {"gc"},
    "models/boards/latest.json": {"gc"},
    "datasets/boards/versions/x.json": set(),
    "datasets/boards/objects/x": {"gc", "push"},
    "base-models/tiny/x": {"gc"},
    "train/run/attempt/x": {"gc", "train"},
    "GENERATION": set(),
}


@pytest.mark.parametrize("name", NAMES)
def test_nobody_writes_or_deletes_what_is_not_theirs(chain: Chain, name: str) -> None:
    # A place of the test's own is out of the question: the policies name the store's.
    with chain.identities.acting(OWNER):
        owner = Store.from_env(HOME)
        kept = {key: owner.get_bytes(key) for key in (*WRITERS, *DELETERS)}
    try:
        store = Store.from_env(HOME, chain.identities.environ(name))
        for key, writers in WRITERS.items():
            assert _may(partial(store.put_bytes, key, b"x"), "s3:PutObject") == (name in writers), key
        for key, deleters in DELETERS.items():
            assert _may(partial(store.delete, [key]), "s3:DeleteObject") == (name in deleters), key
    finally:
        for key, data in kept.items():
            owner.delete([key]) if data is None else owner.put_bytes(key, data)


def _may(request: Callable[[], object], permission: str) -> bool:
    try:
        request()
    except UserError as error:
        if f"the permission {permission}" not in str(error):
            raise
        return False
    return True


def test_clean_up_does_its_work_with_the_rights_of_its_policy(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    cleanup.add_parser(commands)
    flags = commands.choices["gc"].parse_args(["--store", HOME, "--grace", "0"])
    with chain.identities.acting(OWNER):
        Store.from_env(HOME).put_bytes("models/boards/20250101T000000Z-000000000000/left", b"half an upload")
    with chain.identities.acting("gc"):
        assert cleanup.gc(flags) == 0
    said = capsys.readouterr().out
    assert "unfinished upload" in said
    assert "deleted" in said


def test_promote_does_its_work_with_the_rights_of_its_policy(chain: Chain) -> None:
    with chain.identities.acting("promote"):
        models = Store.from_env(HOME).at("models", "boards")
        found = catalog.versions(models)[-1]
        assert catalog.promote(models, found).version == found


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_names_one_bucket_and_no_right_for_everything(name: str) -> None:
    for statement in json.loads((POLICIES / f"{name}.json").read_text())["Statement"]:
        for resource in _listed(statement["Resource"]):
            assert re.match(r"arn:aws:s3:::defect-diffusion($|/[a-zA-Z])", resource)
        assert not any("*" in action for action in _listed(statement["Action"]))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
