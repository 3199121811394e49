"""The settings of a whole run: where things are, and each step's own settings.

Read from a YAML file and overridden by ``key=value`` pairs; every mistake is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from components.convert.config import ConvertConfig
from components.crop.config import CropConfig
from components.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.given_settings import override, read_yaml
from components.select_best.config import SelectBestConfig
from components.settings import UNSHOWN, Settings, decode
from components.snapshot.config import SnapshotConfig
from components.train.config import TrainConfig

PARAMS = Path(__file__).parent / "params"

#: Names that stand for what the project brings along.
SAMPLE_DATASET = "sample"
#: Data set → what `pipelines.quickstart.samples` draws for it.
SAMPLE_DATASETS = {SAMPLE_DATASET: "boards", "sample-tiles": "tiles", "sample-chips": "chips"}
QUICKSTART_BASE = "quickstart"


class PipelineConfig(Settings):
    """Everything that a run depends on."""

    dataset: str = Field(
        SAMPLE_DATASET,
        min_length=1,
        description="Annotated images: a folder, an s3:// prefix (of a pushed data set: NAME or NAME@VERSION), an "
        "archive (.zip, .tar, .tar.gz) in either, a folder tracked by DVC (dvc+<git URL>?path=…&rev=…), or "
        "`sample`, `sample-tiles` or `sample-chips` for what this project draws.",
    )
    base_model: str = Field(
        QUICKSTART_BASE,
        min_length=1,
        description="Stable Diffusion 1.x or 2.x: a diffusers folder or a single file (.safetensors, .ckpt, .pt), here "
        "or in a store (s3://…), hf://owner/name@revision of the Hugging Face hub, or `quickstart` for the tiny model "
        "that comes with this project.",
    )
    model_name: str = Field(
        "sample-boards",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$",
        description="Name under which the model is published: lower-case letters, digits, dot, dash, underscore.",
    )
    store: str | None = Field(
        None,
        pattern=r"^s3://[^/]+(/.*)?$",
        description="Where checkpoints, reports and models go: s3://bucket/prefix. Not given on a laptop: the "
        "embedded store.",
    )
    snapshot: SnapshotConfig = Field(default_factory=SnapshotConfig, description="Settings of the snapshot step.")
    crop: CropConfig = Field(default_factory=CropConfig, description="Settings of the crop step.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="Settings of the train step.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Settings of the evaluate step.")
    select_best: SelectBestConfig = Field(
        default_factory=SelectBestConfig, description="Settings of the select_best step."
    )
    convert: ConvertConfig = Field(default_factory=ConvertConfig, description="Settings of the convert step.")

    @field_validator("dataset", "base_model", "store")
    @classmethod
    def _place_has_no_query(cls, place: str | None, info: ValidationInfo) -> str | None:
        # What follows in a URL may open it, as a signature does, under names that nobody can list.
        if not place or "://" not in place or not re.search("[?#]", place):
            return place
        # A key may hold either of them: s3://bucket/lot #7.
        if place.startswith(("s3://", "gs://")) and not re.search("[?#].*=", place):
            return place
        # DVC's form has a query, with names that are known.
        from components.versions import dvc_location

        if info.field_name == "dataset" and dvc_location.is_dvc(place):
            try:
                dvc_location.parse(place)
            except UserError as error:
                raise PydanticCustomError(UNSHOWN, "{said}", {"said": str(error).removeprefix("dataset: ")}) from None
        else:
            raise PydanticCustomError(
                UNSHOWN,
                "a URL that goes on after ? or #, which may be a signature, and is recorded in what is made; give the "
                "place alone, and what opens it in the environment (STORE_*, HF_TOKEN)",
            )
        return place

    def known_here_only(self) -> dict[str, str | None]:
        """The settings that name a place of this machine, which no cluster reaches, or none; with what they name."""
        from components.dataset import is_remote

        places = {"dataset": self.dataset, "base_model": self.base_model, "store": self.store}
        return {key: place for key, place in places.items() if place is None or not is_remote(place)}


def find(params: str) -> Path:
    """A parameter file by its path, or by the name of one that comes with the project (``quickstart``).

    Raises:
        UserError: when there is neither.
    """
    return shipped(params, PARAMS, "--params")


def shipped(given: str, folder: Path, flag: str) -> Path:
    """A YAML file by its path, or by its name in `folder`, which comes with the project.

    Raises:
        UserError: that names `flag` and what is in `folder`, when there is neither.
    """
    path = Path(given)
    if path.is_file():
        return path
    own = folder / f"{given}.yaml"
    if own.is_file():
        return own
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    if not given:
        raise UserError(f"{flag}: nothing given; give a YAML file or one of {known}")
    raise UserError(f"{flag} {given}: no such file; give a YAML file or one of {known}")


def load(params: str, assignments: Sequence[str] = ()) -> PipelineConfig:
    """The settings in the file `params` (see `find`) with the `assignments` (``train.seed=1``) applied.

    Raises:
        UserError: with a line for every mistake.
    """
    return decode(PipelineConfig, override(read_yaml(find(params)), assignments), "")
