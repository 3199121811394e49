"""What a model says of itself: architecture, metadata, model card, settings."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from pathlib import Path

import pytest
import yaml

from components.artifacts import CheckpointRef
from components.convert.architecture import DEFAULTS, recognise
from components.convert.card import model_card, run_settings
from components.convert.config import ConvertConfig
from components.convert.metadata import Facts, header_metadata
from components.crop.config import CropConfig
from components.errors import SettingsError
from components.evaluate.config import EvaluateConfig
from components.select_best.config import SelectBestConfig
from components.settings import decode
from components.train.config import TrainConfig
from pipelines.config import PipelineConfig, load

from .examples import checkpoint_index, decision
from .test_layout import OTHER, SD15, SD21


def facts(step: int = 100, base_model: str = "/models/tiny", configs: dict = OTHER, **scheduler: object) -> Facts:
    index = dataclasses.replace(checkpoint_index("s3://b/base", [CheckpointRef(step, None, [])]), base_model=base_model)
    return Facts(
        name="boards",
        config=ConvertConfig(licence="apache-2.0", description="Defects on boards."),
        decision=decision(index, step),
        index=index,
        architecture=recognise(configs, scheduler),
        scheduler=dict(scheduler),
    )


def front_matter(card: str) -> dict:
    head = card.split("---\n")[1]
    return dict(yaml.safe_load(head))


@pytest.mark.parametrize(
    ("configs", "prediction", "name", "notes"),
    [
        (SD15, "epsilon", "stable-diffusion-v1", ()),
        (SD15, "v_prediction", "stable-diffusion-v1", ("v-prediction",)),
        (SD21, "epsilon", "stable-diffusion-v2-512", ()),
        (SD21, "v_prediction", "stable-diffusion-v2-768-v", ()),
    ],
)
def test_known_architectures(configs: dict, prediction: str, name: str, notes: tuple[str, ...]) -> None:
    found = recognise(configs, {"prediction_type": prediction})
    assert (found.name, found.scheduler_notes, found.standard) == (name, notes, True)


def test_what_tensors_do_not_show_counts_as_a_difference() -> None:
    configs = {**SD15, "unet": {**SD15["unet"], "norm_num_groups": 8}}
    found = recognise(configs, {})  # type: ignore[arg-type]
    assert found.differences == ("unet norm_num_groups = 8",)
    assert found.name == "stable-diffusion-custom"


def test_what_a_config_does_not_say_is_what_its_library_takes_it_to_mean() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    classes = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextConfig}
    for component, defaults in DEFAULTS.items():
        given = inspect.signature(classes[component]).parameters
        found = {key: given[key].default for key in defaults}
        assert {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()} == defaults


def test_an_infinite_scheduler_setting_which_diffusers_writes_is_kept_as_text() -> None:
    made = header_metadata(facts(lambda_min_clipped=-math.inf))
    assert json.loads(made["defect_diffusion.scheduler"])["lambda_min_clipped"] == "-inf"


def test_metadata_are_strings_and_say_where_the_model_is_from() -> None:
    made = header_metadata(facts(prediction_type="v_prediction"))
    assert all(isinstance(value, str) and value for value in made.values())
    assert made["modelspec.sai_model_spec"] == "1.0.0"
    assert made["modelspec.title"] == "boards"
    assert made["modelspec.prediction_type"] == "v"
    assert made["modelspec.resolution"] == "64x64"
    assert made["modelspec.license"] == "apache-2.0"
    assert made["defect_diffusion.step"] == "100"
    assert made["defect_diffusion.base_model"] == "tiny"
    assert json.loads(made["defect_diffusion.prompts"])["pin-hole"] == "a photo of a pin-hole"
    assert json.loads(made["defect_diffusion.metrics"])["chosen"]["kd_lite0"]["n"] == 50


def test_card_front_matter() -> None:
    assert front_matter(model_card(facts(), "v1")) == {
        "license": "apache-2.0",
        "pipeline_tag": "text-to-image",
        "library_name": "diffusers",
        "tags": ["stable-diffusion", "dreambooth", "defect-diffusion"],
    }
    for named in (
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "hf://stable-diffusion-v1-5/stable-diffusion-v1-5@main",
    ):
        card = model_card(facts(base_model=named), "v1")
        assert front_matter(card)["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"


def test_card_holds_prompts_counts_and_intervals() -> None:
    card = model_card(facts(), "v1")
    assert "| pin-hole | `a photo of a pin-hole` | 40 | 20 |" in card
    assert r"`a photo of a short \| circuit`" in card
    assert f"| data set | version `20260102T030405Z-dddddddddddd`, revision `{'d' * 64}` |" in card
    assert (
        "| kd_lite0 × 10³ | 4 [2, 6] (n = 50, m = 25) | 50 [48, 52] (n = 50, m = 25) | 1 [0, 2] (n = 50, m = 25) |"
        in card
    )
    assert "| fd_lite0 | 0.4 (n = 50, m = 25) | 5 (n = 50, m = 25) | – |" in card
    assert "Step 100 has the smallest kd_lite0." in card
    assert "/models/" not in card
    assert "not better than the base" not in card


def test_card_of_the_base_itself_says_so() -> None:
    card = model_card(facts(step=0), "v1")
    assert "The base model itself: no trained checkpoint was better" in card
    assert "not better than the base model" in card


def test_card_says_which_programs_load_it() -> None:
    custom = model_card(facts(configs=OTHER), "v1")
    assert "do not load this one properly" in custom
    assert "unet block_out_channels = [32, 64, 96]" in custom
    standard = model_card(facts(configs=SD15), "v1")
    assert "put `boards-v1.safetensors` into their folder" in standard
    assert "ModelSamplingDiscrete" not in standard
    v = model_card(facts(configs=SD15, prediction_type="v_prediction"), "v1")
    assert "ModelSamplingDiscrete" in v


def test_settings_of_the_run() -> None:
    found = yaml.safe_load(run_settings(facts()))
    assert found["train"] == {"max_train_steps": 100, "learning_rate": 0.001}
    assert found["convert"]["dtype"] == "fp16"
    assert found["dataset"] == "boards/"
    assert found["crop"] == {"resolution": 64}
    assert found["evaluate"] == {"seed": 3}
    assert found["select_best"] == {"metric": "kd_lite0", "mode": "min"}


def test_the_settings_of_the_run_start_it_again(tmp_path: Path) -> None:
    """With the version of the data set that it was made from, where the run was given the newest."""
    before = PipelineConfig(
        dataset="s3://bucket/datasets/boards",
        base_model="/models/tiny",
        model_name="boards",
        crop=CropConfig(resolution=64, classes=["short"]),
        train=TrainConfig(max_train_steps=30, checkpointing_steps=10),
        evaluate=EvaluateConfig(images_per_class=7),
        select_best=SelectBestConfig(tie="best", constraints={"memorised": "<0.05"}),
        convert=ConvertConfig(licence="apache-2.0", description="Defects on boards."),
    )
    data = before.model_dump(mode="json")
    made = facts()
    made = dataclasses.replace(
        made,
        decision=dataclasses.replace(
            made.decision,
            crops={**made.decision.crops, "dataset": before.dataset},
            settings={step: data[step] for step in ("crop", "evaluate", "select_best")},
        ),
        index=dataclasses.replace(made.index, settings=data["train"]),
    )
    (tmp_path / "config.yaml").write_text(run_settings(made), encoding="utf-8")
    again = load(str(tmp_path / "config.yaml"))
    assert again == before.model_copy(update={"dataset": f"{before.dataset}@20260102T030405Z-dddddddddddd"})


def test_wrong_settings_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        decode(ConvertConfig, {"dtype": "int8", "license": "mit", "licence": "No Such"}, "convert")
    assert len(caught.value.problems) == 3
    assert "did you mean 'licence'" in str(caught.value)
