"""Settings of the crop step, and the prompts that they make."""

from __future__ import annotations

import re
from string import Formatter
from typing import Literal, cast

from pydantic import Field, field_validator, model_validator

from components.crop.class_names import class_problem
from components.documents import shown
from components.settings import Settings

FormatName = Literal["auto", "coco", "csv", "deeppcb", "labelme", "masks", "mvtec", "voc", "yolo"]

#: Placeholders of prompts beside {defect}; each is the setting of its name.
_FILLED = ("product", "part", "identifier")
_KNOWN = ", ".join(f"{{{name}}}" for name in ("defect", *_FILLED))


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
    min_context: int = Field(0, ge=0, le=4096, description="surroundings kept on each side at least, pixels")
    large: Literal["reduce", "tile"] = Field(
        "reduce",
        description="a defect that does not fit into a crop at the image's own resolution: reduce shrinks it into one "
        "crop, tile covers it with several that overlap",
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
    join_boxes: bool = Field(
        False,
        description="defects of one class whose boxes are at most `join` pixels apart share a crop, as pieces of a "
        "mask do",
    )
    normal_per_image: int = Field(
        0,
        ge=0,
        le=100,
        description="crops of defect-free areas from each image, at most; for prior preservation and comparison",
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
    lookalikes: Literal["drop", "keep"] = Field(
        "drop",
        description="training crops that all but repeat a held-out crop are left out, or kept; reported either way",
    )
    prompt: str | list[str] = Field(
        "a photo of {defect}",
        description="prompt of every class, or a list of them that its crops share out; {defect} is its name, "
        "{product}, {part} and {identifier} are the settings",
    )
    prompts: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="class: its own prompt or list of them, instead of `prompt`; the same placeholders",
    )
    normal_prompt: str = Field("a photo without a defect", description="prompt of the defect-free crops")
    product: str = Field("", description="what is inspected, for {product} in prompts")
    part: str = Field("", description="which part of it, for {part} in prompts")
    identifier: str = Field(
        "", description="a rare word such as sks that training binds to the product, for {identifier} in prompts"
    )
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

    @field_validator("classes")
    @classmethod
    def _classes_are_names(cls, given: list[str] | None) -> list[str] | None:
        for name in given or ():
            _check_name(name)
        return given

    @field_validator("prompt")
    @classmethod
    def _prompt_is_template(cls, given: str | list[str]) -> str | list[str]:
        return _checked(given)

    @field_validator("normal_prompt")
    @classmethod
    def _normal_prompt_is_template(cls, given: str) -> str:
        _checked(given)
        if "defect" in _placeholders(given):
            raise ValueError("{defect} in the prompt of crops without one")
        return given

    @field_validator("prompts")
    @classmethod
    def _prompts_are_templates(cls, given: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        for defect, templates in given.items():
            _check_name(defect)
            try:
                _checked(templates)
            except ValueError as error:
                raise ValueError(f"{defect}: {error}") from None
        return given

    @model_validator(mode="after")
    def _placeholders_are_given(self) -> CropConfig:
        used = [self.normal_prompt] if self.normal_per_image else []
        for template in (*used, *_listed(self.prompt), *(t for given in self.prompts.values() for t in _listed(given))):
            for name in _FILLED:
                if name in _placeholders(template) and not self._filling(name):
                    raise ValueError(f"the prompt {template!r} names {{{name}}}, so give `{name}` a value")
        return self

    def prompts_of(self, defect: str) -> list[str]:
        """The prompts that crops of class `defect` share out, one or more; underscores are read as spaces."""
        return [self._filled(t, defect) for t in _listed(self.prompts.get(defect, self.prompt))]

    def prompt_of(self, defect: str) -> str:
        """The first of `prompts_of`: what images of the class are generated with."""
        return self.prompts_of(defect)[0]

    def prompt_of_normal(self) -> str:
        """The prompt of defect-free crops."""
        return self._filled(self.normal_prompt, "")

    def _filled(self, template: str, defect: str) -> str:
        return template.format(defect=defect.replace("_", " "), **{name: self._filling(name) for name in _FILLED})

    def _filling(self, name: str) -> str:
        return cast(str, getattr(self, name)).strip()


def _check_name(name: str) -> None:
    if problem := class_problem(name):
        raise ValueError(f"the class {shown(name)} {problem}; no annotation has such a one")


def _listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _placeholders(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _checked(given: str | list[str]) -> str | list[str]:
    if not given:
        raise ValueError("no prompt; describe what the crop shows")
    for template in _listed(given):
        _check(template)
    return given


def _check(template: str) -> None:
    if not template.strip():
        raise ValueError("an empty prompt; describe what the crop shows")
    try:
        unknown = [name for name in _placeholders(template) if name != "defect" and name not in _FILLED]
    except ValueError as error:
        raise ValueError(f"not a template ({error}); write {{{{ and }}}} for braces") from None
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; known: {_KNOWN}")
    try:
        template.format(defect="x", **dict.fromkeys(_FILLED, "x"))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"not a template ({error}); placeholders are {_KNOWN}") from None
