from __future__ import annotations

import pytest

from components.crop.config import CropConfig
from components.errors import SettingsError
from components.settings import decode


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 100}, "multiple of 8"),
        ({"resolution": 16}, "greater than or equal to 32"),
        ({"prompt": "a {colour} thing"}, "unknown placeholder {colour}"),
        ({"prompt": "a {} thing"}, "unknown placeholder {}"),
        ({"prompt": "a {defect"}, "not a template"),
        ({"prompt": "a {defect.nothing}"}, "unknown placeholder"),
        ({"prompt": "a {defect:d}"}, "not a template"),
        ({"prompt": "  "}, "empty prompt"),
        ({"prompts": {"spur": "{x}"}}, "spur: unknown placeholder"),
        ({"prompt": "{product} with {defect}"}, "give `product` a value"),
        ({"prompt": "a {identifier} {defect}"}, "give `identifier` a value"),
        ({"prompts": {"spur": ["a spur", "{part} with a spur"]}}, "give `part` a value"),
        ({"prompt": []}, "no prompt"),
        ({"prompt": ["a {defect}", ""]}, "empty prompt"),
        ({"normal_prompt": "no {defect}"}, "{defect} in the prompt of crops without one"),
        ({"normal_prompt": "a good {product}", "normal_per_image": 1}, "give `product` a value"),
        ({"large": "cut"}, "'reduce' or 'tile'"),
        ({"same_part": "("}, "not a regular expression"),
        ({"reference_fraction": 1}, "less than 1"),
        ({"format": "coco5"}, "'auto', 'coco'"),
        ({"classes": []}, "at least 1 item"),
        ({"resolutoin": 64}, "did you mean 'resolution'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        decode(CropConfig, settings, "crop")
    assert str(caught.value).startswith("crop")
    assert message in str(caught.value)


def test_all_wrong_settings_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        decode(CropConfig, {"resolution": 1, "context": -1, "on_error": "maybe"}, "crop")
    assert len(caught.value.problems) == 3


def test_numbers_arrive_as_floats_from_kfp() -> None:
    assert decode(CropConfig, {"resolution": 64.0, "max_train_per_class": 40.0}, "crop").resolution == 64


def test_a_prompt_is_made_of_the_class_and_the_product() -> None:
    config = CropConfig(prompt="{product} with {defect}", prompts={"spur": "a spur"}, product="a circuit board")
    assert config.prompt_of("missing_hole") == "a circuit board with missing hole"
    assert config.prompt_of("spur") == "a spur"


def test_a_class_may_have_several_prompts_and_a_rare_word() -> None:
    config = CropConfig(
        prompt=["a {identifier} {product}, {defect}", "#{product}@{part}@{defect}#"],
        prompts={"dent": "a dent"},
        product=" screw ",
        part="head",
        identifier="sks",
    )
    assert config.prompts_of("deep_scratch") == ["a sks screw, deep scratch", "#screw@head@deep scratch#"]
    assert config.prompt_of("deep_scratch") == "a sks screw, deep scratch"
    assert config.prompts_of("dent") == ["a dent"]


def test_the_prompt_without_a_defect_counts_only_where_it_is_used() -> None:
    assert CropConfig(normal_prompt="a good {product}").prompt_of_normal() == "a good "
    assert CropConfig(normal_prompt="a good {product}", product="chip", normal_per_image=1).prompt_of_normal() == (
        "a good chip"
    )
