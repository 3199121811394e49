"""What the steps hand to each other: crops, the checkpoint index, metrics, the decision, the model.

The formats only: small files, read and written here so that two steps cannot disagree about them.
Each JSON file carries ``schema``; a reader refuses one that it does not know, and whatever in it is not of the
declared type. The weights themselves lie in the object store (`components.storage`); an index says where.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from components.documents import parse_json
from components.errors import UserError
from components.storage.uri import key_problem

Split = Literal["train", "reference"]
SPLITS: tuple[Split, ...] = ("train", "reference")
#: Folder of the defect-free crops among the crops, with splits of its own.
NORMAL = "normal"

T = TypeVar("T")


def write_json(path: Path, value: Any) -> None:
    """Write `value` (a dataclass or plain data) as JSON, atomically; NaN is refused."""
    data = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path, kind: type[T], schema: int = 1) -> T:
    """Read a dataclass written by `write_json`.

    Raises:
        UserError: when the file is missing, is not JSON, or has another schema.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; it should hold a {kind.__name__} written by an earlier step") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); run the step that writes it again") from None
    return from_json(data, kind, str(path), schema)


def from_json(data: bytes, kind: type[T], place: str, schema: int = 1) -> T:
    """The dataclass that `write_json` wrote to `place`.

    Raises:
        UserError: when the bytes are no JSON, have another schema, or hold something of another type.
    """
    try:
        content = parse_json(data)
    except ValueError as error:
        raise UserError(f"{place}: cannot be read as JSON ({error}); run the step that writes it again") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{place}: schema {found!r}, expected {schema}; run the step that writes it again")
    return checked(content, kind, place)


def checked(content: Any, kind: type[T], place: str) -> T:
    """`content`, plain data, as a `kind`; fields that it does not know are passed over.

    Raises:
        UserError: where a field is missing or of another type; the first one is named.
    """
    try:
        return _validated(content, kind)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, TypeError) as error:
        problem = str(error)
    raise UserError(f"{place}: not a complete {kind.__name__} ({problem}); run the step that writes it again")


def _validated(content: Any, kind: type[T]) -> T:
    # By way of JSON, whose lists may be tuples and whose objects may be dataclasses where types are strict.
    made: T = _adapter(kind).validate_json(json.dumps(content, allow_nan=False), strict=True)  # type: ignore[arg-type]
    return made


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _as_data(kind: type) -> BeforeValidator:
    """Holds plain data to the fields of `kind`, and leaves it plain."""

    def check(data: Any) -> Any:
        _validated(data, kind)
        return data

    return BeforeValidator(check)


def _sound(name: str) -> str:
    if problem := key_problem(name):
        raise ValueError(f"the name {problem}")
    return name


#: A file below the folder that names it: never one outside.
_FileName = Annotated[str, AfterValidator(_sound)]


# ---------------------------------------------------------------- crops (crop → train, evaluate)


@dataclass(frozen=True)
class Crop:
    """One square crop around one defect, or without any; a line of ``<split>/metadata.jsonl``."""

    file_name: _FileName  #: path of the RGB image, relative to the split's folder
    text: str  #: the prompt it is trained with
    defect: str  #: defect class; empty for a defect-free crop
    source: str  #: path of the image it was cut from, relative to the data set
    window: tuple[int, int, int, int]  #: x0, y0, x1, y1 of the crop in the source image, pixels
    box: tuple[int, int, int, int]  #: x0, y0, x1, y1 of the defect in the crop, pixels; zeros without one
    mask_file_name: _FileName | None = None  #: 8-bit mask (0 or 255), relative to the split's folder


@dataclass(frozen=True)
class CropSet:
    """``crops.json``: what the folder holds. Crops themselves are in the splits' metadata.

    Defect-free crops, where they were asked for, are in a folder ``normal`` with splits of its own:
    ``read_crops(folder / NORMAL, split)``.
    """

    resolution: int  #: side of every crop, pixels
    classes: list[str]  #: defect classes, sorted
    prompts: dict[str, str]  #: class → the prompt images of it are generated with, the first where there are several
    counts: dict[str, dict[str, int]]  #: class → split → number of crops
    digest: str  #: sha256 over all crops' pixels and metadata
    dataset: str  #: where the images came from, as the user named it
    dataset_revision: str  #: digest of the data set's files
    settings: dict[str, Any] = field(default_factory=dict)  #: the crop settings used
    dataset_version: str = ""  #: what people call that revision: a pushed version, a git revision; or nothing
    normal: dict[str, int] = field(default_factory=dict)  #: split → number of defect-free crops; where there are any
    asked_revision: str = ""  #: what snapshot gave out: another one where the data set changed before it was read
    schema: int = 1


def write_crops(folder: Path, split: Split, crops: Iterable[Crop]) -> None:
    """Write a split's ``metadata.jsonl`` (Hugging Face *imagefolder* layout)."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(crop), ensure_ascii=False) + "\n" for crop in crops]
    (folder / split / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")


def read_crops(folder: Path, split: Split) -> list[Crop]:
    """A split's crops, in the order written; file names stay relative to ``folder/split``.

    Raises:
        UserError: when the folder was not written by the crop step.
    """
    path = folder / split / "metadata.jsonl"
    try:
        # Not `splitlines`, to which a name may hold the end of a line: U+2028, U+0085.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [checked(parse_json(line), Crop, str(path)) for line in lines if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{path}: not found; is {folder} the output of the crop step?") from None
    except ValueError as error:
        raise UserError(f"{path}: not the crop step's metadata ({error}); run crop again") from None


# ------------------------------------------------- checkpoints (train → evaluate, select_best, convert)


@dataclass(frozen=True)
class CheckpointRef:
    """One checkpoint. Its weights are the base's with `components` replaced, or updated, by what is at `uri`."""

    step: int
    uri: str | None  #: tree in the store with the trained components; None at step 0, the base itself
    components: list[str]  #: sub-folders of a diffusers pipeline that the tree replaces or updates, e.g. ["unet"]
    images_seen: int = 0
    adapter: bool = False  #: whether the tree holds low-rank updates of the base's `components` (`components.adapters`)


@dataclass(frozen=True)
class CheckpointIndex:
    """``index.json`` of the train step: every checkpoint of one run, step 0 (the base) first."""

    fingerprint: str  #: digest of crops, settings, base, trainer sources and torch's version
    base_uri: str  #: tree in the store: a complete diffusers folder of the base model
    base_model: str  #: the base as the user named it
    base_revision: str  #: which base that was, as `components.base_model.revision` says it
    crops_digest: str
    resolution: int
    prompts: dict[str, str]  #: class → prompt
    checkpoints: list[Annotated[dict[str, Any], _as_data(CheckpointRef)]]  #: `CheckpointRef` as data, rising steps
    settings: dict[str, Any]  #: the train settings used
    schema: int = 1

    def refs(self) -> list[CheckpointRef]:
        return [CheckpointRef(**data) for data in self.checkpoints]


#: Below a run's reports in the store: files of events for TensorBoard, a folder an attempt.
EVENTS = "tensorboard"


# ------------------------------------------------------------ metrics (evaluate → select_best, convert)


@dataclass(frozen=True)
class Estimate:
    """A number with what it is worth. `low` and `high` bound a 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None  #: generated images it rests on
    m: int | None = None  #: real images it rests on


_Estimate = Annotated[dict[str, Any], _as_data(Estimate)]


@dataclass(frozen=True)
class CheckpointMetrics:
    """What was measured of one checkpoint."""

    step: int
    label: str  #: "step 500", "base" or "published <version>"
    metrics: dict[str, _Estimate]  #: metric name → `Estimate` as data
    per_class: dict[str, dict[str, _Estimate]]  #: class → metric name → `Estimate` as data


#: Metrics that tables show first, or alone where there is little room; those that were measured.
HEADLINE = ("kd_lite0", "fd_lite0", "kid", "fid", "memorised", "memorised_pixels", "class_alignment", "clip_score")

#: In place of a step: the model published last, which no step of this run made.
PUBLISHED = -1


@dataclass(frozen=True)
class Difference:
    """How far the values of two rows are apart: by the same noise, so surer than either value."""

    metric: str
    a: int  #: step, or `PUBLISHED`
    b: int
    value: float  #: of `a` less that of `b`
    low: float  #: 95 % interval
    high: float


_Row = Annotated[dict[str, Any], _as_data(CheckpointMetrics)]


@dataclass(frozen=True)
class Metrics:
    """``metrics.json`` of the evaluate step."""

    checkpoints: list[_Row]  #: `CheckpointMetrics` as data, rising steps
    floor: dict[str, _Estimate]  #: metric name → real-against-real `Estimate` as data
    floor_per_class: dict[str, dict[str, _Estimate]]
    higher_is_better: dict[str, bool]  #: metric name → direction
    absent: dict[str, str]  #: metric name → why it was not measured
    extractor: dict[str, str]  #: name, sha256 of its weights, resizer
    generation: dict[str, Any]  #: images a class, sampler, steps, guidance, seed
    crops_digest: str
    #: the crops' `dataset`, `dataset_revision`, `dataset_version`, `asked_revision` and `crop_settings` (their digest)
    dataset: dict[str, str] = field(default_factory=dict)
    incumbent: _Row | None = None  #: the model published last, as a checkpoint is measured
    #: `Difference` as data, of all pairs of rows
    differences: list[Annotated[dict[str, Any], _as_data(Difference)]] = field(default_factory=list)
    other_extractors: list[dict[str, str]] = field(default_factory=list)  #: records of further networks
    settings: dict[str, Any] = field(default_factory=dict)  #: step → its settings, of crop and evaluate
    schema: int = 1

    def rows(self) -> list[CheckpointMetrics]:
        return [CheckpointMetrics(**data) for data in self.checkpoints]

    def published(self) -> CheckpointMetrics | None:
        """The row of the model published last, where it was measured; its step is `PUBLISHED`."""
        return CheckpointMetrics(**self.incumbent) if self.incumbent is not None else None

    def difference(self, metric: str, a: int, b: int) -> Estimate | None:
        """Step `a`'s value of `metric` less step `b`'s, paired by noise; None where it was not measured."""
        for data in self.differences:
            found = Difference(**data)
            if found.metric == metric and {found.a, found.b} == {a, b}:
                if found.a == a:
                    return Estimate(found.value, found.low, found.high)
                return Estimate(-found.value, -found.high, -found.low)
        return None


# --------------------------------------------------------------- decision and model (select_best → convert)


#: Beside ``best.json``, and then beside the model card: images that the chosen checkpoint drew, a row a class.
SAMPLES = "samples.png"


@dataclass(frozen=True)
class Decision:
    """``best.json`` of the select_best step: the chosen checkpoint and why."""

    step: int
    metric: str
    mode: Literal["min", "max"]
    chosen: _Row  #: `CheckpointMetrics` of the chosen checkpoint as data
    base: _Row  #: `CheckpointMetrics` of step 0 as data
    floor: dict[str, _Estimate]
    reasons: list[str]  #: sentences, the decision first
    improved: bool  #: whether training improved on the base beyond its interval
    index: dict[str, Any]  #: the `CheckpointIndex` as data
    crops: dict[str, Any]  #: the `CropSet` counts and prompts, for the model card
    #: how the measured images were generated (`Metrics.generation`), for the model card
    generation: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  #: step → its settings, of crop, evaluate and select_best
    runner_up: int | None = None  #: step of what would have been chosen otherwise
    rejected: dict[str, str] = field(default_factory=dict)  #: label of every other checkpoint → why not
    #: against the model published last: "better", "worse" or "not distinguishable"; empty without one
    against_published: str = ""
    schema: int = 1


@dataclass(frozen=True)
class PublishedModel:
    """``model.json`` of the convert step: a reference to the published file, not the file."""

    name: str
    version: str
    uri: str  #: tree in the store that holds it
    file: str  #: name of the weights file in the tree
    bytes: int
    sha256: str  #: of the file
    tensors_digest: str  #: of names, shapes, dtypes and values: equal for equal weights
    step: int
    schema: int = 1


# ------------------------------------------------------------------- origin (convert → the next run's snapshot)


@dataclass(frozen=True)
class TrainedOn:
    """``made_by.trained_on`` in a published model's manifest: what it would take to train it again."""

    dataset: str  #: where the images were, as the user named it
    dataset_revision: str  #: digest of the files that the crops were cut from
    asked_revision: str  #: what snapshot had given out: the one that the steps' cache knows the crops by
    crop_settings: str  #: sha256 of the crop settings
    base_revision: str  #: which base model, as `components.base_model.revision` says it
