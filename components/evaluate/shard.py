"""A shard of an evaluation: draws with its part of the models, for the evaluate step to measure.

Several pods, each with a GPU, draw at the same time. They leave images and features where the evaluate step looks
for what it need not draw again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from components import artifacts, sampling
from components.artifacts import CheckpointIndex
from components.errors import UserError
from components.evaluate import candidates, loading
from components.evaluate.candidates import Candidate
from components.evaluate.config import EvaluateConfig
from components.evaluate.crops import load as load_crops
from components.evaluate.drawing import Drawing
from components.evaluate.runner import Runner, workers_and_threads
from components.leases import held, run_scope
from components.progress import log
from components.runtime import InputPath, Result
from components.storage import Store


def draw(
    config: EvaluateConfig,
    crops: InputPath,
    checkpoints: InputPath,
    store: str,
    shard: int,
    shards: int,
    model_name: str = "",
    published_revision: str = "",
) -> Result:
    """Draw with every `shards`-th model of an evaluation, from model `shard` on, counted from 0.

    Takes what the evaluate step takes and checks what that checks, before anything is drawn. Only the models of this
    shard are fetched. A batch that is in the store is not drawn again.

    Raises:
        UserError: as the evaluate step; and for a shard that is none of `shards`.
    """
    if not 0 <= shard < shards:
        raise UserError(f"shard {shard}: of {shards} shards it is one of 0 to {shards - 1}")
    index = artifacts.read_json(checkpoints / "index.json", CheckpointIndex)
    listed = load_crops(crops, index)
    home = Store.from_env(store)
    own = candidates.of_run(config, index, home, model_name, published_revision)[shard::shards]
    if not own:
        log(f"shard {shard}: there are fewer models than shards, none is left for this one")
        return Result()
    workers, threads = workers_and_threads(config)
    scope = run_scope(index.fingerprint)
    with held(home, scope, f"evaluate-{shard}"), tempfile.TemporaryDirectory(prefix="evaluate-") as temporary:
        work = Path(temporary)
        extractors, _ = loading.load(config, work / "networks")
        drawing = Drawing(config, index, listed, extractors, home, threads)

        def used(candidate: Candidate, model: Callable[[], sampling.Model], seen: Callable[[int], None]) -> None:
            for name in drawing.prompts:
                for batch in drawing.batches(model, candidate.name, name):
                    seen(len(batch.images))

        runner = Runner(own, drawing.images_each, work / "models", workers, threads)
        with closing(runner.run(used)) as all_drawn:
            for _, error in all_drawn:
                if error is not None:
                    log(f"warning: {error}")
    return Result()
