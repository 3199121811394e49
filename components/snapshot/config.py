"""Settings of the snapshot step."""

from __future__ import annotations

from pydantic import Field

from components.settings import Settings


class RetrainIf(Settings):
    """How much has to be new in the data before it is worth another model."""

    new_crops: int = Field(
        1,
        ge=1,
        description="how many crops have to be new, changed or gone since the model published last for a changed data "
        "set to be trained on; fewer do where a class reaches crop.min_train_per_class and "
        "crop.min_reference_per_class. 1: any change of any file does, and no crop is counted",
    )


class SnapshotConfig(Settings):
    """How the data set is looked at; nothing here changes what a revision means."""

    workers: int = Field(4, ge=1, le=64, description="files read at the same time to compute their digests")
    warm_start: bool = Field(
        False,
        description="train on new data from the model published last under model_name, instead of from base_model, "
        "which then serves for the first one only",
    )
    retrain_if: RetrainIf = Field(
        default_factory=RetrainIf, description="When a data set that changed is worth another model."
    )
