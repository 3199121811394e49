"""The whole step against a real object store: fetch, convert, verify, publish, and what stops it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from components import sampling
from components.artifacts import CheckpointRef, write_json
from components.checkpoint_file import ckpt_metadata
from components.convert import publish
from components.convert.config import ConvertConfig
from components.errors import UserError
from components.leases import run_scope
from components.models import catalog
from components.models.record import record_of
from components.snapshot.published import as_base
from components.storage import Store
from tests.components.test_leases import ended

from .runs import Run
from .updates import write_updates

pytestmark = pytest.mark.integration


def test_publishes_the_trained_weights_once(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    result = run.convert()
    model = run.model()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", model.version)
    assert model.version.endswith(model.tensors_digest[:12])
    assert model.file == f"boards-{model.version}.safetensors"
    assert model.uri == run.store.at("models", "boards", model.version).uri
    assert result.metadata["model"]["version"] == model.version
    assert ended(run.store, run_scope("f" * 64)) == ["convert"]

    tree = tmp_path / "tree"
    manifest = Store.from_env(model.uri).get_tree(tree)
    assert {entry.path for entry in manifest.files} >= {
        model.file,
        "README.md",
        "config.yaml",
        "config/model_index.json",
        "config/scheduler/scheduler_config.json",
        "config/tokenizer/tokenizer.json",
    }
    # The next run's snapshot counts what is new since.
    assert manifest.made_by["trained_on"] == {
        "dataset": "boards/",
        "dataset_revision": "d" * 64,
        "asked_revision": "e" * 64,
        "crop_settings": "f" * 64,
        "base_revision": "b" * 64,
    }
    weights = tree / model.file
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == model.sha256
    assert weights.stat().st_size == model.bytes
    assert (run.outputs / "model" / "README.md").read_text() == (tree / "README.md").read_text()
    assert not list((run.outputs / "model").glob("*.safetensors"))

    # The UNet is the trained one, the rest is the base's.
    written = load_file(weights)
    base = load_file(checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    expected = (base["conv_in.weight"] * 1.01).half()
    assert torch.equal(written["model.diffusion_model.input_blocks.0.0.weight"], expected)
    base = load_file(checkpoint / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(written["first_stage_model.quant_conv.bias"], base["quant_conv.bias"].half())

    record = record_of(manifest.made_by)
    assert record is not None
    assert (record.step, record.run, record.dataset_revision) == (100, "f" * 64, "d" * 64)
    assert record.checkpoint_uri == run.store.at("train/run/step-000100").uri
    assert record.base_uri == run.store.at("train/run/base").uri
    assert record.settings == yaml.safe_load((tree / "config.yaml").read_text())

    latest = json.loads(run.store.get_bytes("models/boards/latest.json") or b"{}")
    assert latest["schema"] == 1
    assert (latest["version"], latest["file"], latest["sha256"]) == (model.version, model.file, model.sha256)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", latest["published"])


def test_the_cards_snippet_works_in_the_published_folder(run: Run, tmp_path: Path) -> None:
    run.convert()
    tree = tmp_path / "tree"
    Store.from_env(run.model().uri).get_tree(tree)
    snippet = re.search(r"```python\n(.*?)```", (tree / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    subprocess.run([sys.executable, "-c", snippet[1]], cwd=tree, check=True, capture_output=True, timeout=300)
    assert (tree / "defect.png").stat().st_size > 1000


def test_a_retry_finds_its_own_version(run: Run) -> None:
    run.convert()
    before = run.published()
    run.store.delete(["models/boards/latest.json"])
    run.convert(out="again")
    assert run.model("again") == run.model()
    assert run.published() == before


def test_other_settings_make_another_version_and_move_latest(run: Run) -> None:
    run.convert()
    run.convert(ConvertConfig(licence="apache-2.0", dtype="fp32", title="Boards"), out="second")
    first, second = run.model(), run.model("second")
    assert first.tensors_digest != second.tensors_digest
    assert second.bytes > 1.8 * first.bytes
    latest = json.loads(run.store.get_bytes("models/boards/latest.json") or b"{}")
    assert latest["version"] == second.version
    assert run.store.at("models/boards", first.version).manifest() is not None


def test_another_description_of_equal_tensors_is_another_publication(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.convert()
    later = publish.version_after
    monkeypatch.setattr(publish, "version_after", lambda known, digest: later(known, digest, now=4e9))
    run.convert(ConvertConfig(licence="apache-2.0", title="Boards"), out="second")
    assert run.model("second").version == "20961002T070640Z-" + run.model().tensors_digest[:12]


def test_the_latest_is_what_was_made_last_and_was_not_taken_back(run: Run) -> None:
    half = ConvertConfig(licence="apache-2.0", compare_images=False)
    full = ConvertConfig(licence="apache-2.0", compare_images=False, dtype="fp32")
    models = run.store.at("models/boards")
    for config, out in ((half, "first"), (full, "second"), (half, "third")):
        run.convert(config, out=out)
    first, second, third = (run.model(out) for out in ("first", "second", "third"))
    assert catalog.versions(models) == [first.version, second.version, third.version]
    assert first.tensors_digest == third.tensors_digest
    assert catalog.settle(models).version == third.version

    assert catalog.rollback(models).version == second.version
    run.convert(half, out="again")
    assert run.model("again").version == third.version
    assert catalog.settle(models).version == second.version, "a user took the third back"


def test_two_publishers_do_not_mix(run: Run) -> None:
    # Processes, as two pods would be; the same command line as in the step's README.
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "components", "convert", "--best", run.best, "--model_name", "boards"),
                *("--store", run.store.uri, "--model", run.outputs / dtype, "--set", f"dtype={dtype}"),
                *("--set", "compare_images=false"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for dtype in ("fp16", "bf16")
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    for dtype in ("fp16", "bf16"):
        model = run.model(dtype)
        manifest = Store.from_env(model.uri).manifest()
        assert manifest is not None
        assert {entry.path: entry.sha256 for entry in manifest.files}[model.file] == model.sha256
    latest = json.loads(run.store.get_bytes("models/boards/latest.json") or b"{}")
    assert latest["version"] in {run.model("fp16").version, run.model("bf16").version}
    assert run.model("fp16").version != run.model("bf16").version


def test_the_base_itself_can_be_chosen(run: Run) -> None:
    run.choose(0)
    run.convert()
    assert run.model().step == 0
    assert "The base model itself" in (run.outputs / "model" / "README.md").read_text()


@pytest.fixture
def lora_run(run: Run, checkpoint: Path, tmp_path: Path) -> Run:
    """The run, whose step 100 is a LoRA of UNet and text encoder."""
    write_updates(tmp_path / "updates", checkpoint, ("unet", "text_encoder"))
    run.store.at("train/run/step-000100-lora").put_tree(tmp_path / "updates")
    uri = run.store.at("train/run/step-000100-lora").uri
    ref = CheckpointRef(100, uri, ["unet", "text_encoder"], 800, adapter=True)
    run.choose(100, checkpoints=[dataclasses.asdict(ref)], settings={"learning_rate": 0.001, "seed": 3})
    return run


def test_a_lora_is_published_merged_and_alone(lora_run: Run, checkpoint: Path, tmp_path: Path) -> None:
    write_json(lora_run.best / "samples.png", "a picture")
    lora_run.convert(ConvertConfig(dtype="fp32", compare_images=False))
    model, tree = lora_run.model(), tmp_path / "tree"
    Store.from_env(model.uri).get_tree(tree)
    merged = load_file(tree / model.file)[
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    ]
    base = load_file(checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    assert not torch.equal(merged, base["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"])

    file = tree / "lora" / f"boards-{model.version}-lora.safetensors"
    with safe_open(file, framework="pt") as opened:
        said = opened.metadata()
        assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha" in opened.keys()  # noqa: SIM118
    known = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "3.0",
        "ss_base_model_version": "sd_v1_v",
        "ss_sd_model_name": "tiny",
        "ss_steps": "100",
        "ss_learning_rate": "0.001",
        "ss_seed": "3",
        "ss_resolution": "(64, 64)",
        "ss_num_train_images": "71",
        "modelspec.architecture": "stable-diffusion-custom/lora",
    }
    assert {key: said[key] for key in known} == known
    assert json.loads(said["ss_tag_frequency"])["pin-hole"] == {"a photo of a pin-hole": 40}

    card = (tree / "README.md").read_text()
    assert f"`lora/{file.name}`" in card
    assert "- lora\n" in card
    assert "](samples.png)" in card
    assert (lora_run.outputs / "model" / "samples.png").read_bytes() == (tree / "samples.png").read_bytes()
    # The snippet that loads it works where it lies, once it knows the base model.
    snippet = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1].replace("BASE_MODEL", str(checkpoint))
    subprocess.run([sys.executable, "-c", snippet], cwd=tree, check=True, capture_output=True, timeout=300)


def test_a_lora_alone_draws_only_on_its_base(lora_run: Run, tmp_path: Path) -> None:
    lora_run.convert(ConvertConfig(lora="kohya", compare_images=False))
    model, tree = lora_run.model(), tmp_path / "tree"
    Store.from_env(model.uri).get_tree(tree)
    assert model.file == f"boards-{model.version}-lora.safetensors"
    assert [path.name for path in tree.rglob("*.safetensors")] == [model.file]
    with pytest.raises(UserError, match=r"a LoRA alone, which draws on its base model only"):
        sampling.load_file(tree / model.file, tree / "config")
    with pytest.raises(UserError, match=r"snapshot\.warm_start: .* is a LoRA alone, .*set convert\.lora to merged"):
        as_base(lora_run.store, "boards", model.version, workers=1)


def test_a_ckpt_without_autoencoder(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    run.convert(ConvertConfig(format="ckpt", include_vae=False))
    model, tree = run.model(), tmp_path / "tree"
    with pytest.raises(UserError, match=r"snapshot\.warm_start: .* no autoencoder, .*convert\.include_vae to true"):
        as_base(run.store, "boards", model.version, workers=1)
    Store.from_env(model.uri).get_tree(tree)
    assert model.file == f"boards-{model.version}.ckpt"
    names = torch.load(tree / model.file, weights_only=True)["state_dict"].keys()
    assert {name.partition(".")[0] for name in names} == {"model", "cond_stage_model"}
    assert json.loads(ckpt_metadata(tree / model.file)["defect_diffusion.prompts"])["short"]
    with pytest.raises(UserError, match=r"holds no autoencoder .* copy its base model's"):
        sampling.load_file(tree / model.file, tree / "config")
    vae = "diffusion_pytorch_model.safetensors"
    (tree / "config" / "vae" / vae).write_bytes((checkpoint / "vae" / vae).read_bytes())
    drawn = sampling.load_file(tree / model.file, tree / "config")
    base = load_file(checkpoint / "vae" / vae)
    assert torch.equal(drawn.vae.state_dict()["quant_conv.bias"], base["quant_conv.bias"])
    snippet = re.search(r"```python\n(.*?)```", (tree / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    code = snippet[1].replace("BASE_MODEL", str(checkpoint))
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True, timeout=300)
