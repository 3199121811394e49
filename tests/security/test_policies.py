"""Each step does its work with the rights of its own policy, and with another's ends in a message that says which is
missing."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components import runtime
from components.__main__ import load
from components.convert.config import ConvertConfig
from components.crop.config import CropConfig
from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.models import catalog
from components.runtime import Result
from components.select_best.config import SelectBestConfig
from components.snapshot.config import SnapshotConfig
from components.storage import Store
from components.train.config import TrainConfig
from components.versions import push
from pipelines.cleanup import command as cleanup
from pipelines.quickstart.samples import write_samples
from tests.security.identities import NAMES, OWNER, POLICIES, Identities, served

pytestmark = pytest.mark.integration

HOME = "s3://defect-diffusion"
BOARDS = f"{HOME}/datasets/boards"
STEPS = ("snapshot", "crop", "train", "evaluate", "select_best", "convert")


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Identities]:
    with served(tmp_path_factory.mktemp("identities")) as found:
        yield found


class Chain:
    """The steps on one small data set, each fed by the one before it; what they write lies in `out`."""

    def __init__(self, identities: Identities, out: Path) -> None:
        self.identities, self.out = identities, out

    def call(self, step: str, out: Path | None = None) -> Result | None:
        """Run `step` as this process's identity."""
        made, out = self.out, out or self.out
        arguments: dict[str, dict[str, Any]] = {
            "snapshot": {
                "config": SnapshotConfig(),
                "crop_settings": CropConfig(resolution=64),
                "dataset": BOARDS,
                "base_model": f"{HOME}/base-models/tiny",
                "model_name": "boards",
            },
            "crop": {
                "config": CropConfig(
                    resolution=64,
                    classes=["pin-hole", "open"],
                    reference_fraction=0.5,
                    max_train_per_class=4,
                    max_reference_per_class=4,
                ),
                "dataset": BOARDS,
                "dataset_revision": "",
                "crops": out / "crops",
                "report": out / "crops.html",
            },
            "train": {
                "config": TrainConfig(
                    max_train_steps=1,
                    checkpointing_steps=1,
                    lr_warmup_steps=0,
                    train_batch_size=2,
                    augment="none",
                    num_threads=1,
                ),
                "crops": made / "crops",
                "base_model": f"{HOME}/base-models/tiny",
                "base_revision": "tiny",
                "generation": "",
                "checkpoints": out / "checkpoints",
                "metrics": out / "training",
                "report": out / "training.html",
            },
            "evaluate": {
                "config": EvaluateConfig(images_per_class=4, num_inference_steps=2, num_threads=1),
                "crops": made / "crops",
                "checkpoints": made / "checkpoints",
                "metrics": out / "metrics",
                "report": out / "report.html",
                "model_name": "boards",
            },
            "select_best": {
                "config": SelectBestConfig(),
                "metrics": made / "metrics",
                "checkpoints": made / "checkpoints",
                "best": out / "best",
                "decision": out / "decision.html",
            },
            "convert": {
                # Described otherwise, it is another version, which has to be published.
                "config": ConvertConfig(title=out.name),
                "best": made / "best",
                "model_name": "boards",
                "model": out / "model",
            },
        }
        return load(step)(**arguments[step], store=HOME)


@pytest.fixture(scope="module")
def chain(identities: Identities, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Every step has run, each with its own identity: that it could is what the fixture shows."""
    boards = tmp_path_factory.mktemp("boards")
    write_samples(boards, images=14, size=320, seed=1)
    with identities.acting("push"):
        push.push(Store.from_env(BOARDS), boards, {})
        Store.from_env(f"{HOME}/base-models/tiny").put_tree(tiny_base)
    made = Chain(identities, tmp_path_factory.mktemp("chain"))
    for step in STEPS:
        with identities.acting(step):
            made.call(step)
    return made


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
            assert _may(lambda key=key: store.put_bytes(key, b"x"), "s3:PutObject") == (name in writers), key
        for key, deleters in DELETERS.items():
            assert _may(lambda key=key: store.delete([key]), "s3:DeleteObject") == (name in deleters), key
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
