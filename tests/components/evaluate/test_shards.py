"""Shards draw, each with its own models; the evaluate step then measures the same as if it had drawn itself."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.evaluate.shard import draw
from components.evaluate.step import evaluate
from components.storage import Store
from tests.components.evaluate.examples import PROMPTS, publish_run, same, shifted, write_crop_set

pytestmark = pytest.mark.integration

CONFIG = EvaluateConfig(images_per_class=6, num_inference_steps=2, batch_size=4, images_kept=2, workers=2)
COUNTS = {name: {"train": 4, "reference": 4} for name in PROMPTS}


def test_shards_fetch_their_own_checkpoints_alone_and_change_no_number(
    tmp_path: Path, store: Store, tiny_base: Path
) -> None:
    place = store.at("evaluate", uuid.uuid4().hex)
    crops = write_crop_set(tmp_path / "crops", COUNTS)
    checkpoints = publish_run(place, tiny_base, tmp_path, PROMPTS, {100: shifted, 200: same})
    trees = {step: place.at("train", "f" * 16, f"step-{step:06d}") for step in (100, 200)}

    def files(name: str, config: EvaluateConfig) -> dict[str, bytes]:
        out = tmp_path / name
        evaluate(config, crops, checkpoints, place.uri, out, tmp_path / f"{name}.html")
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    alone = files("alone", CONFIG.model_copy(update={"workers": 1}))

    # Models 0, 1 and 2 are the base and the two checkpoints: shard 0 has the base and step 200.
    config = CONFIG.model_copy(update={"shards": 2})
    trees[100].delete_tree()
    draw(config, crops, checkpoints, place.uri, shard=0, shards=2)
    with pytest.raises(UserError, match="checkpoint 100 is gone"):
        draw(config, crops, checkpoints, place.uri, shard=1, shards=2)
    trees[100].put_tree(tmp_path / "weights-100")
    trees[200].delete_tree()
    draw(config, crops, checkpoints, place.uri, shard=1, shards=2)

    # Everything is drawn: no checkpoint is fetched any more.
    trees[100].delete_tree()
    assert files("measured", config) == alone


def test_a_shard_refuses_what_the_step_refuses_before_it_draws(tmp_path: Path, store: Store, tiny_base: Path) -> None:
    place = store.at("evaluate", uuid.uuid4().hex)
    crops = write_crop_set(tmp_path / "crops", COUNTS, digest="e" * 64)
    checkpoints = publish_run(place, tiny_base, tmp_path, PROMPTS, {})
    with pytest.raises(UserError, match="not the crops that the checkpoints were trained with"):
        draw(CONFIG, crops, checkpoints, place.uri, shard=0, shards=2)
    with pytest.raises(UserError, match="one of 0 to 1"):
        draw(CONFIG, crops, checkpoints, place.uri, shard=2, shards=2)
    assert not list(place.at("train", "f" * 16, "evaluating").list())
    # More shards than models is no mistake.
    fitting = write_crop_set(tmp_path / "fitting", COUNTS)
    draw(CONFIG, fitting, checkpoints, place.uri, shard=1, shards=2)
