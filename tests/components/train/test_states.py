"""States in the store: complete with the checkpoint of their step or on their own, or passed over."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from components.errors import UserError
from components.storage import MANIFEST, Store
from components.train import data, model
from components.train.config import TrainConfig
from components.train.fit import upload
from components.train.loop import Trainer
from components.train.run import Run
from components.train.snapshot import unpacked
from tests.tiny_model import write_pipeline

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("states") / "base", widths=(8, 16, 16, 16))


def trainer(base: Path, **settings: Any) -> Trainer:
    config = TrainConfig(**{"train_batch_size": 2, "learning_rate": 1e-3, **settings})
    shape, random = (3, 1, 4, 8, 8), torch.Generator().manual_seed(0)
    moments = torch.randn(shape, generator=random), torch.rand(shape, generator=random)
    latents = data.LatentSet(*moments, torch.zeros(3, dtype=torch.int64), ["a photo"])
    return Trainer(model.load(base), latents, config, Accelerator(cpu=True))


def trained(base: Path, run: Run, due: dict[int, tuple[bool, bool]], **settings: Any) -> Trainer:
    """Train as many steps as `due` has, with a checkpoint and a state after those where it says so."""
    made = trainer(base, **settings)
    for publish, save in due.values():
        made.step()
        if publish or save:
            upload(run, made, made.snapshot(publish, save), {"losses": [], "norms": [], "rates": []})()
    return made


def everything(of: Trainer) -> dict[str, Any]:
    """All that decides how training goes on."""
    snapshot = of.snapshot(publish=False, save=True)
    assert snapshot.state is not None
    return {"weights": unpacked(snapshot.weights), "rest": unpacked(snapshot.state)}


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            assert_same(one, other)
    else:
        assert a == b


def bytes_of(run: Run, step: int) -> int:
    return sum(info.bytes for info in run.states.list() if f"-{step:06d}/" in info.key)


BOTH, STATE, NONE = (True, True), (False, True), (False, False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_ema": True, "ema_decay": 0.5},
        {"train_text_encoder": True, "lr_scheduler": "cosine"},
        {"use_lora": True, "use_ema": True},
    ],
    ids=["full", "average", "text encoder", "LoRA"],
)
@pytest.mark.parametrize("last", [BOTH, STATE], ids=["with a checkpoint", "without"])
def test_a_state_is_complete(
    base: Path, store: Store, settings: dict[str, Any], last: tuple[bool, bool], request: pytest.FixtureRequest
) -> None:
    place = store.at("test-states", request.node.callspec.id.replace(" ", "-"))
    ended = trained(base, Run(place, "f" * 16), {1: BOTH, 2: NONE, 3: last}, **settings)
    expected = everything(ended)
    again = trainer(base, **settings)
    Run(place, "f" * 16).resume(again)
    assert again.done == 3
    assert_same(everything(again), expected)
    ended.step()
    again.step()
    assert_same(everything(again), everything(ended))


@pytest.fixture(scope="module")
def dropping(base: Path) -> Path:
    """A base whose configurations ask for dropout while it is trained."""
    folder = shutil.copytree(base, base.with_name("dropping"))
    for file, change in (("unet", {"dropout": 0.1}), ("text_encoder", {"attention_dropout": 0.1})):
        path = folder / file / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder


def test_what_a_base_drops_out_is_the_same_again(base: Path, dropping: Path, store: Store) -> None:
    place, settings = store.at("test-states-dropout"), {"train_text_encoder": True, "gradient_accumulation_steps": 2}
    ended = trained(dropping, Run(place, "f" * 16), {1: NONE, 2: BOTH, 3: NONE}, **settings)
    again = trainer(dropping, **settings)
    Run(place, "f" * 16).resume(again)
    assert again.done == 2
    # What else may draw from torch's own generator.
    torch.rand(7)
    again.step()
    assert_same(everything(again), everything(ended))
    plain = trained(base, Run(place, "e" * 16), {1: NONE, 2: NONE, 3: NONE}, **settings)
    for before, after in ((plain.parameters[0], ended.parameters[0]), (plain.parameters[-1], ended.parameters[-1])):
        assert not torch.equal(before, after)


def test_a_process_without_the_average_goes_on_from_the_trained_weights(base: Path) -> None:
    """Of several processes one alone keeps the average."""
    leads = trainer(base, use_ema=True, ema_decay=0.5)
    for _ in range(2):
        leads.step()
    follows = trainer(base, use_ema=True, ema_decay=0.5)
    follows.ema = None
    state = everything(leads)
    follows.restore(state["rest"], state["weights"])
    assert_same(follows.parameters, leads.parameters)
    assert not torch.equal(next(iter(state["weights"]["unet"].values())), leads.parameters[0])


def test_weights_are_sent_once(base: Path, store: Store) -> None:
    runs = [Run(store.at("test-states-bytes", name), "f" * 16) for name in ("both", "alone")]
    for run, last in zip(runs, (BOTH, STATE)):
        made = trained(base, run, {1: NONE, 2: last})
    weights = sum(p.numel() * p.element_size() for p in made.parameters)
    both, alone = (bytes_of(run, 2) for run in runs)
    assert alone - both >= weights


def test_the_limit_leaves_what_a_state_refers_to(base: Path, store: Store) -> None:
    place = store.at("test-states-limit")
    due = {1: BOTH, 2: (True, False), 3: (True, False)}
    trained(base, Run(place, "f" * 16, limit=1), due)
    again = trainer(base)
    Run(place, "f" * 16, limit=1).resume(again)
    assert again.done == 1


@pytest.fixture
def threads() -> Iterator[None]:
    """torch's number of threads, put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def two_states(base: Path, place: Store) -> tuple[Store, dict[str, Any]]:
    """The farther of two attempts' states, after step 3, and all that the other's holds, after step 2."""
    farther, nearer = Run(place, "f" * 16), Run(place, "f" * 16)
    trained(base, farther, {1: NONE, 2: NONE, 3: STATE})
    expected = everything(trained(base, nearer, {1: NONE, 2: STATE}))
    return farther.states.at(f"{farther.attempt}-000003"), expected


@pytest.mark.parametrize("how", ["torn manifest", "other bytes", "no state", "cut short"])
def test_the_next_farthest_state_is_taken_where_the_farthest_is_damaged(
    base: Path, store: Store, tmp_path: Path, how: str
) -> None:
    place = store.at("test-states-damaged", how.replace(" ", "-"))
    tree, expected = two_states(base, place)
    if how == "torn manifest":
        tree.put_bytes(MANIFEST, b"{")
    elif how == "other bytes":
        tree.put_bytes("state.pt", b"junk")
    else:
        # As the manifest says, but nothing that torch reads.
        tree.get_tree(tmp_path)
        data = (tmp_path / "state.pt").read_bytes()
        (tmp_path / "state.pt").write_bytes(b"junk" if how == "no state" else data[:-100])
        tree.delete_tree()
        tree.put_tree(tmp_path)
    again = trainer(base)
    Run(place, "f" * 16).resume(again)
    assert again.done == 2
    assert_same(everything(again), expected)


def test_a_full_disk_does_not_begin_the_run_anew(base: Path, store: Store) -> None:
    place = store.at("test-states-full-disk")
    two_states(base, place)
    again, before = trainer(base), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="free some space"):
            Run(place, "f" * 16).resume(again)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    Run(place, "f" * 16).resume(again)
    assert again.done == 3


def test_a_state_says_with_how_many_threads_it_was_made_and_is_gone_on_from_with_as_many(
    base: Path, store: Store, threads: None
) -> None:
    place = store.at("test-states-threads")
    assert Run(place, "f" * 16).threads() is None
    torch.set_num_threads(2)
    trained(base, Run(place, "f" * 16), {1: BOTH})
    assert Run(place, "f" * 16).threads() == 2
    for count, done in ((1, 0), (2, 1)):
        torch.set_num_threads(count)
        again = trainer(base)
        Run(place, "f" * 16).resume(again)
        assert again.done == done


@pytest.mark.parametrize("how", ["gone", "torn manifest", "damaged", "no tensors"])
def test_a_state_whose_checkpoint_cannot_be_read_is_passed_over(
    base: Path, store: Store, tmp_path: Path, how: str
) -> None:
    place = store.at("test-states-passed-over", how.replace(" ", "-"))
    farther, nearer = Run(place, "f" * 16), Run(place, "f" * 16)
    trained(base, farther, {1: NONE, 2: NONE, 3: BOTH})
    # Of another attempt: a state goes when one that is farther is committed, not before.
    expected = everything(trained(base, nearer, {1: NONE, 2: STATE}))
    [checkpoint] = [Store.from_env(str(ref.uri)) for ref in farther.refs]
    if how == "gone":
        checkpoint.delete_tree()
    elif how == "torn manifest":
        checkpoint.put_bytes(MANIFEST, b"{")
    elif how == "damaged":
        checkpoint.put_bytes("unet/diffusion_pytorch_model.safetensors", b"other bytes")
    else:
        checkpoint.delete_tree()
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"other bytes")
        checkpoint.put_tree(tmp_path)
    again = trainer(base)
    Run(place, "f" * 16).resume(again)
    assert again.done == 2
    assert_same(everything(again), expected)
