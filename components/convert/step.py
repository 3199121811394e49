"""convert: write the chosen checkpoint as one file, prove that it loads, publish it once.

Not covered: which checkpoint (select_best chose it), LoRA files, and other key layouts.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from components.artifacts import (
    CheckpointIndex,
    CheckpointRef,
    Decision,
    PublishedModel,
    checked,
    read_json,
    write_json,
)
from components.checkpoints import fetch_checkpoint
from components.convert import card, publish, verify, writer
from components.convert.architecture import recognise
from components.convert.companion import write_companion
from components.convert.config import ConvertConfig
from components.convert.digest import tensors_digest
from components.convert.layout import targets
from components.convert.metadata import Facts, header_metadata
from components.convert.record import record
from components.convert.source import Source
from components.errors import UserError
from components.leases import held, run_scope
from components.models import catalog
from components.progress import log, size
from components.runtime import InputPath, OutputPath, Result
from components.storage import Manifest, Store, digest_of, sha256_file

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def convert(config: ConvertConfig, best: InputPath, model_name: str, store: str, model: OutputPath) -> Result:
    """Convert the checkpoint that select_best chose into one .safetensors file, verify and publish it.

    Args:
        config: the step's settings.
        best: folder with ``best.json``, as select_best writes it.
        model_name: the name it is published under.
        store: ``s3://`` URI; the model goes to ``<store>/models/<model_name>/<version>/``.
        model: folder to write: ``model.json`` (where the model is) and ``README.md`` (its model card).

    Raises:
        UserError: when the checkpoint is gone, damaged, not finite or of another model family.
        verify.Mismatch: when the written file does not read back as the checkpoint; nothing is published.
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
        checkpoint = fetch_checkpoint(index, ref, work / "checkpoint")
        tree, weights = work / "tree", work / "weights.safetensors"
        with Source(checkpoint) as source:
            source.check()
            write_companion(checkpoint, tree / "config")
            facts = _facts(config, decision, index, model_name, source)
            _write_verified(weights, tree / "config", source, facts)
        identity = publish.Identity(tensors_digest(weights), _description_digest(facts, tree / "config"))
        version, manifest = _published(models, tree, weights, facts, identity, ref)
        file = f"{model_name}-{version}.safetensors"
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
    (model / "README.md").write_text(card.model_card(facts, version, file), encoding="utf-8")
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


def _facts(config: ConvertConfig, decision: Decision, index: CheckpointIndex, name: str, source: Source) -> Facts:
    return Facts(name, config, decision, index, recognise(source.configs, source.scheduler), source.scheduler)


def _write_verified(weights: Path, companion: Path, source: Source, facts: Facts) -> None:
    """Write the file at `weights` and hold it against the checkpoint."""
    dtype = facts.config.dtype
    entries = writer.plan(source, targets(source.configs, source.tensors), dtype)
    writer.write(weights, source, entries, header_metadata(facts))
    verify.check_header(weights, entries)
    count = verify.compare_tensors(weights, companion, source, dtype)
    log(f"read back by diffusers: {count} tensors equal the checkpoint's, as {dtype}")
    if facts.config.compare_images:
        prompts = facts.index.prompts
        prompt = prompts[min(prompts)] if prompts else ""
        difference = verify.compare_images(weights, companion, source.folder, dtype, prompt)
        log(f"an image from the file differs from the checkpoint's by {difference:.2f} of 255 levels")


def _published(
    models: Store, tree: Path, weights: Path, facts: Facts, identity: publish.Identity, ref: CheckpointRef
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

    def lay_out(version: str) -> Path:
        file = f"{facts.name}-{version}.safetensors"
        for other in tree.glob("*.safetensors"):
            other.unlink()
        (tree / file).hardlink_to(weights)
        (tree / "README.md").write_text(card.model_card(facts, version, file), encoding="utf-8")
        (tree / "config.yaml").write_text(card.run_settings(facts), encoding="utf-8")
        return tree

    made_by = {"model": dataclasses.asdict(record(facts, ref))}
    if facts.trained_on is not None:
        made_by["trained_on"] = dataclasses.asdict(facts.trained_on)
    return publish.publish(models, identity, made_by, lay_out)


def _description_digest(facts: Facts, companion: Path) -> str:
    """sha256 of all that is published beside the tensors, without the version's own name."""
    files = sorted(path for path in companion.rglob("*") if path.is_file())
    return digest_of(
        [
            header_metadata(facts),
            card.model_card(facts, "", ""),
            card.run_settings(facts),
            facts.trained_on and dataclasses.asdict(facts.trained_on),
            {path.relative_to(companion).as_posix(): sha256_file(path) for path in files},
        ]
    )
