"""convert: write the chosen checkpoint as one file, prove that it loads, publish it once.

Not covered: which checkpoint (select_best chose it), and key layouts other than the original one's.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from components import adapters
from components.artifacts import (
    SAMPLES,
    CheckpointIndex,
    CheckpointRef,
    Decision,
    PublishedModel,
    checked,
    read_json,
    write_json,
)
from components.checkpoints import base_below, fetch_checkpoint, update_below
from components.convert import publish
from components.convert.architecture import recognise
from components.convert.companion import write_companion
from components.convert.config import ConvertConfig
from components.convert.metadata import Facts
from components.convert.proven import write_lora, write_whole
from components.convert.record import record
from components.convert.source import Source
from components.convert.tree import Made, lay_out, write_card
from components.errors import UserError
from components.leases import held, run_scope
from components.models import catalog
from components.progress import log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Manifest, Store

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def convert(config: ConvertConfig, best: InputPath, model_name: str, store: str, model: OutputPath) -> Result:
    """Convert the checkpoint that select_best chose into one file (and a LoRA beside it), verify and publish it.

    Args:
        config: the step's settings.
        best: folder with ``best.json``, as select_best writes it, and ``samples.png`` where there are samples.
        model_name: the name it is published under.
        store: ``s3://`` URI; the model goes to ``<store>/models/<model_name>/<version>/``.
        model: folder to write: ``model.json`` (where the model is), ``README.md`` (its model card) and its picture.

    Raises:
        UserError: when the checkpoint is gone, damaged, not finite or of another model family.
        Mismatch: when the written file does not read back as the checkpoint; nothing is published.
    """
    if not _MODEL_NAME.fullmatch(model_name):
        raise UserError(
            f"model_name {model_name!r}: use lower-case letters, digits, '.', '_' and '-', at most 63, "
            "beginning with a letter or digit"
        )
    decision = read_json(best / "best.json", Decision)
    index, ref = _chosen(decision, best / "best.json")
    root = Store.from_env(store)
    models = root.at("models", model_name)
    # Below the system's temporary folder: the only place, with the outputs, that is sure to be writable.
    scope = run_scope(index.fingerprint)
    with held(root, scope, "convert"), tempfile.TemporaryDirectory(prefix="convert-") as temporary:
        work = Path(temporary)
        log(f"fetch checkpoint {ref.step} of run {index.fingerprint[:12]}")
        checkpoint = fetch_checkpoint(index, ref, work / "fetched")
        update = update_below(work / "fetched", ref) if ref.adapter else None
        samples = best / SAMPLES if (best / SAMPLES).is_file() else None
        companion = work / "config"
        with Source(checkpoint) as source:
            source.check()
            write_companion(checkpoint, companion)
            facts = Facts(
                name=model_name,
                config=config,
                decision=decision,
                index=index,
                architecture=recognise(source.configs, source.scheduler),
                scheduler=source.scheduler,
                adapter=adapters.read(update) if update is not None else None,
                has_samples=samples is not None,
            )
            whole = write_whole(work, companion, source, facts) if facts.has_whole else None
        lora = None
        if update is not None and facts.has_lora:
            lora = write_lora(work, base_below(work / "fetched"), update, facts)
        made = Made(companion, whole, lora, samples)
        identity = made.identity(facts)
        version, manifest = _published(models, work, made, facts, identity, ref)
        file = facts.file(version)
        entry = next(entry for entry in manifest.files if entry.path == file)
        latest = catalog.settle(models)
        if latest.version != version:
            log(f"the latest version is {latest.version}: {version} was taken back, or a newer one published meanwhile")
    published = PublishedModel(
        name=model_name,
        version=version,
        uri=models.at(version).uri,
        file=file,
        bytes=entry.bytes,
        sha256=entry.sha256,
        tensors_digest=identity.tensors_digest,
        step=ref.step,
    )
    model.mkdir(parents=True, exist_ok=True)
    write_card(made, facts, version, model)
    write_json(model / "model.json", published)
    log(f"model at {published.uri}/{file} ({size(entry.bytes)})")
    return Result(
        metadata={
            "model": {
                "version": version,
                "uri": published.uri,
                "file": file,
                "bytes": published.bytes,
                "sha256": published.sha256,
                "tensors_digest": published.tensors_digest,
                "step": published.step,
            }
        }
    )


def _chosen(decision: Decision, path: Path) -> tuple[CheckpointIndex, CheckpointRef]:
    index = checked(decision.index, CheckpointIndex, f"{path}: index")
    refs = index.refs()
    for ref in refs:
        if ref.step == decision.step:
            return index, ref
    known = ", ".join(str(ref.step) for ref in refs)
    raise UserError(f"{path}: step {decision.step} is not in its index ({known}); run select_best again")


def _published(
    models: Store, work: Path, made: Made, facts: Facts, identity: publish.Identity, ref: CheckpointRef
) -> tuple[str, Manifest]:
    """The version with exactly this content: the one that is there, or a new one.

    A new one too where another has become the latest since: the latest is what was made last. Not where a user took
    the version back.
    """
    if (found := publish.find(models, identity)) is not None:
        latest = catalog.settle(models)
        if found[0] == latest.version or found[0] in latest.withdrawn:
            log("exactly this model is published already; nothing is sent")
            return found
        log(f"published before as {found[0]}; {latest.version} has become the latest since, so it is published anew")
    made_by = {"model": dataclasses.asdict(record(facts, ref))}
    if facts.trained_on is not None:
        made_by["trained_on"] = dataclasses.asdict(facts.trained_on)
    return publish.publish(models, identity, made_by, lambda version: lay_out(made, facts, version, work / version))
