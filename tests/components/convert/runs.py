"""A training run in the store, as the convert step finds it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from components.artifacts import CheckpointRef, PublishedModel, read_json, write_json
from components.convert.config import ConvertConfig
from components.convert.step import convert
from components.runtime import Result
from components.storage import Store

from .examples import checkpoint_index, decision

CONFIG = ConvertConfig(licence="apache-2.0")


@dataclasses.dataclass
class Run:
    """A training run in the store: the base as step 0, and a UNet trained a little as step 100."""

    store: Store
    best: Path  #: select_best's output, step 100 chosen
    outputs: Path

    def convert(self, config: ConvertConfig = CONFIG, name: str = "boards", out: str = "model") -> Result:
        return convert(config, best=self.best, model_name=name, store=self.store.uri, model=self.outputs / out)

    def model(self, out: str = "model") -> PublishedModel:
        return read_json(self.outputs / out / "model.json", PublishedModel)

    def published(self) -> list[str]:
        return sorted(info.key for info in self.store.list("models/"))

    def choose(self, step: int, **changes: Any) -> None:
        refs = [
            CheckpointRef(0, None, []),
            CheckpointRef(100, self.store.at("train/run/step-000100").uri, ["unet"], 800),
        ]
        index = dataclasses.replace(checkpoint_index(self.store.at("train/run/base").uri, refs), **changes)
        write_json(self.best / "best.json", decision(index, step))
