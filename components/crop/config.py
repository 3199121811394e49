"""Settings of the crop step, and the prompts that they make."""

from __future__ import annotations

import re
from string import Formatter
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.settings import Settings

FormatName = Literal["auto", "coco", "csv", "deeppcb", "labelme", "masks", "mvtec", "voc", "yolo"]


class CropConfig(Settings):
    """What is cut from the images, how much of it is kept, and which prompt it is trained with."""

    resolution: int = Field(512, ge=32, le=2048, multiple_of=8, description="side of every crop, pixels")
    format: FormatName = Field("auto", description="how the images are annotated; auto looks at the files")
    classes: list[str] | None = Field(
        None, min_length=1, description="defect classes to use; all that are found when not given"
    )
    context: float = Field(
        0.25,
        ge=0,
        le=4,
        description="surroundings kept on each side, as a fraction of the defect's longest side",
    )
    min_area: int = Field(
        9, ge=0, description="smallest defect that is used, pixels of its mask, or of its box without a mask"
    )
    join: int = Field(
        3,
        ge=0,
        le=64,
        description="pieces of a mask with at most this many pixels between them are one defect",
    )
    reference_fraction: float = Field(
        0.35, gt=0, lt=1, description="share of the source images held out for the metrics, never trained on"
    )
    split_seed: int = Field(
        0, ge=0, description="another number holds out other images and keeps other crops under a limit"
    )
    same_part: str | None = Field(
        None,
        description="regular expression on an image's path: images with the same match (its first group, where it has "
        "one) show the same part and stay on one side of the split; every image on its own by default",
    )
    max_train_per_class: int | None = Field(
        None, ge=1, description="most training crops of a class; no limit by default"
    )
    max_reference_per_class: int | None = Field(
        None, ge=1, description="most reference crops of a class; no limit by default"
    )
    min_train_per_class: int = Field(20, ge=1, description="training crops below which the report warns about a class")
    min_reference_per_class: int = Field(
        10, ge=1, description="reference crops below which the report warns about a class"
    )
    prompt: str = Field(
        "a photo of {defect}",
        description="prompt of every class; {defect} is its name, {product} the setting",
    )
    prompts: dict[str, str] = Field(
        default_factory=dict, description="class: its own prompt, instead of `prompt`; the same placeholders"
    )
    product: str = Field("", description="what is inspected, for {product} in prompts")
    on_error: Literal["fail", "skip"] = Field(
        "fail",
        description="fail: wrong or unreadable data stops the step; skip: it is left out and listed in the report",
    )

    @field_validator("same_part")
    @classmethod
    def _same_part_is_expression(cls, expression: str | None) -> str | None:
        try:
            re.compile(expression or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return expression

    @field_validator("prompt")
    @classmethod
    def _prompt_is_template(cls, template: str) -> str:
        return _checked(template)

    @field_validator("prompts")
    @classmethod
    def _prompts_are_templates(cls, templates: dict[str, str]) -> dict[str, str]:
        for defect, template in templates.items():
            try:
                _checked(template)
            except ValueError as error:
                raise ValueError(f"{defect}: {error}") from None
        return templates

    @model_validator(mode="after")
    def _product_is_given(self) -> CropConfig:
        for template in (self.prompt, *self.prompts.values()):
            if "product" in _placeholders(template) and not self.product.strip():
                raise ValueError(f"the prompt {template!r} names {{product}}, so give `product` a value")
        return self

    def prompt_of(self, defect: str) -> str:
        """The prompt that crops of class `defect` are trained with; underscores are read as spaces."""
        template = self.prompts.get(defect, self.prompt)
        return template.format(defect=defect.replace("_", " "), product=self.product.strip())


def _placeholders(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _checked(template: str) -> str:
    if not template.strip():
        raise ValueError("an empty prompt; describe what the crop shows")
    try:
        unknown = [name for name in _placeholders(template) if name not in ("defect", "product")]
    except ValueError as error:
        raise ValueError(f"not a template ({error}); write {{{{ and }}}} for braces") from None
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; known: {{defect}}, {{product}}")
    try:
        template.format(defect="x", product="x")
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"not a template ({error}); placeholders are {{defect}} and {{product}}") from None
    return template
