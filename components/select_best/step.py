"""The select_best step: from metrics to one checkpoint."""

from __future__ import annotations

import dataclasses
import json

from components import artifacts
from components.artifacts import CheckpointIndex, Decision, Metrics
from components.errors import UserError
from components.progress import log
from components.runtime import InputPath, OutputPath, Result
from components.select_best import page
from components.select_best.choose import NothingToChoose, choose
from components.select_best.config import SelectBestConfig
from components.select_best.samples import write_samples
from components.storage import Store


def select_best(
    config: SelectBestConfig,
    metrics: InputPath,
    checkpoints: InputPath,
    store: str,
    best: OutputPath,
    decision: OutputPath,
) -> Result:
    """Choose one checkpoint of `checkpoints` by what evaluate measured in `metrics`.

    `best` receives ``best.json`` (`artifacts.Decision`) and ``decision.md``, `decision` the page. All three
    are put into the store first, below the run's ``reports``; where nothing can be chosen, the page that says
    why is there before the step fails. The rule is in `components.select_best.choose`. `best` also receives
    ``samples.png``, where evaluate kept images of the chosen checkpoint.

    Raises:
        UserError: for a metric that was not measured or cannot choose, for constraints that leave nothing,
            and for metrics of another training run.
    """
    measured = artifacts.read_json(metrics / "metrics.json", Metrics)
    index = artifacts.read_json(checkpoints / "index.json", CheckpointIndex)
    steps = {ref.step for ref in index.refs()}
    foreign = sorted({row.step for row in measured.rows()} - steps)
    if measured.crops_digest != index.crops_digest or foreign:
        what = f"steps {foreign} are not in the index" if foreign else "the crops differ"
        raise UserError(f"{metrics}: these metrics are of another training run ({what}); run evaluate again")
    kept = Store.from_env(store).at("train", index.fingerprint, "reports")
    try:
        choice = choose(measured, config)
    except NothingToChoose as error:
        refusal = page.of_refusal(error, measured, index, config)
        _publish(kept, refusal)
        raise
    base = next(row for row in measured.rows() if row.step == 0)
    labels = {row.step: row.label for row in measured.rows()}
    made = Decision(
        step=choice.row.step,
        metric=config.metric,
        mode=choice.mode,
        chosen=dataclasses.asdict(choice.row),
        base=dataclasses.asdict(base),
        floor=measured.floor,
        reasons=choice.reasons,
        improved=choice.improved,
        index=dataclasses.asdict(index),
        crops={
            "prompts": index.prompts,
            "counts": _counts(measured),
            "digest": index.crops_digest,
            **measured.dataset,
        },
        generation=measured.generation,
        settings={**measured.settings, "select_best": config.model_dump(mode="json")},
        runner_up=None if choice.runner_up is None else choice.runner_up.step,
        rejected={labels[step]: why for step, why in choice.rejected.items()},
        against_published="" if choice.published is None else choice.published.verdict,
    )
    said = page.of_choice(choice, measured, index, config)
    kept.put_bytes("decision.json", json.dumps(dataclasses.asdict(made), allow_nan=False).encode(), "application/json")
    _publish(kept, said)
    for reason in choice.reasons:
        log(reason)

    artifacts.write_json(best / "best.json", made)
    (best / "decision.md").write_text(said.markdown(), encoding="utf-8")
    write_samples(metrics, made.step, best)
    decision.parent.mkdir(parents=True, exist_ok=True)
    decision.write_text(said.html(), encoding="utf-8")
    value = choice.row.metrics[config.metric]["value"]
    return Result(
        metadata={
            "best": {
                "step": choice.row.step,
                "metric": config.metric,
                "value": value,
                "improved": str(choice.improved).lower(),
                "against_published": made.against_published,
            }
        }
    )


def _publish(kept: Store, said: page.Page) -> None:
    kept.put_bytes("decision.md", said.markdown().encode(), "text/markdown")
    kept.put_bytes("decision.html", said.html().encode(), "text/html")
    log(f"decision: {kept.uri}/decision.html")


def _counts(measured: Metrics) -> dict[str, dict[str, int]]:
    """Class → crops by split: the numbers that the real-against-real kernel distance rests on."""
    return {
        name: {"train": floor["kd_lite0"]["n"], "reference": floor["kd_lite0"]["m"]}
        for name, floor in measured.floor_per_class.items()
        if "kd_lite0" in floor
    }
