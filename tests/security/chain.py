"""The six steps in this process, one after another, on a small data set whose names are hostile to pages and shells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.__main__ import load
from components.convert.config import ConvertConfig
from components.crop.config import CropConfig
from components.evaluate.config import EvaluateConfig
from components.runtime import Result
from components.select_best.config import SelectBestConfig
from components.snapshot.config import SnapshotConfig
from components.storage import Store
from components.train.config import TrainConfig
from components.versions import push
from pipelines.quickstart.samples import write_samples
from tests.security.identities import Identities

HOME = "s3://defect-diffusion"
BOARDS = f"{HOME}/datasets/boards"

#: Runs in a page that does not escape it, in a shell that is given it, and in YAML and Markdown that it is pasted into.
HOSTILE = "'\"><svg onload=alert(1)><script>alert(2)<!-- $(touch pwned) `touch pwned` ; touch pwned {{7*7}} {% raw %}"
#: Class, which is a folder's name here → what it was.
CLASSES = {f"hole {HOSTILE}": "pin-hole", "open\" onmouseover=alert(3) x='": "open"}
#: Braces in a prompt name its parts, and others than the known ones are refused.
PROMPTS: dict[str, str | list[str]] = {
    name: f"a photo of <i>{name.translate(str.maketrans('{}', '()'))}</i>: - !!python/x # y" for name in CLASSES
}


def write_boards(folder: Path) -> None:
    """Drawn boards with two classes of defects, under hostile names."""
    write_samples(folder, images=14, size=320, seed=1)
    for name, was in CLASSES.items():
        (folder / "masks" / was).rename(folder / "masks" / name)
    for path in sorted(folder.rglob("*-001.png")):
        path.rename(path.with_name(f"one {HOSTILE[:60]}.png"))


def publish_inputs(folder: Path, base: Path) -> None:
    """Push the boards, written to `folder`, and a base model, as this process's identity."""
    write_boards(folder)
    push.push(Store.from_env(BOARDS), folder, {})
    Store.from_env(f"{HOME}/base-models/tiny").put_tree(base)


class Chain:
    """The steps on one small data set, each fed by the one before it; what they write lies in `out`."""

    def __init__(self, identities: Identities, out: Path) -> None:
        self.identities, self.out = identities, out

    def call(self, step: str, out: Path | None = None) -> Result | None:
        """Run `step` as this process's identity."""
        made, out = self.out, out or self.out
        arguments: dict[str, dict[str, Any]] = {
            "snapshot": {
                "config": SnapshotConfig(),
                "crop_settings": CropConfig(resolution=64),
                "dataset": BOARDS,
                "base_model": f"{HOME}/base-models/tiny",
                "model_name": "boards",
            },
            "crop": {
                "config": CropConfig(
                    resolution=64,
                    classes=list(CLASSES),
                    prompts=PROMPTS,
                    product=HOSTILE,
                    reference_fraction=0.5,
                    max_train_per_class=4,
                    max_reference_per_class=4,
                ),
                "dataset": BOARDS,
                "dataset_revision": "",
                "crops": out / "crops",
                "report": out / "crops.html",
            },
            "train": {
                "config": TrainConfig(
                    max_train_steps=1,
                    checkpointing_steps=1,
                    lr_warmup_steps=0,
                    train_batch_size=2,
                    augment="none",
                    num_threads=1,
                ),
                "crops": made / "crops",
                "base_model": f"{HOME}/base-models/tiny",
                "base_revision": "b" * 64,
                "generation": "",
                "checkpoints": out / "checkpoints",
                "metrics": out / "training",
                "report": out / "training.html",
            },
            "evaluate": {
                "config": EvaluateConfig(images_per_class=4, num_inference_steps=2, num_threads=1),
                "crops": made / "crops",
                "checkpoints": made / "checkpoints",
                "metrics": out / "metrics",
                "report": out / "report.html",
                "model_name": "boards",
            },
            "select_best": {
                "config": SelectBestConfig(),
                "metrics": made / "metrics",
                "checkpoints": made / "checkpoints",
                "best": out / "best",
                "decision": out / "decision.html",
            },
            "convert": {
                # Described otherwise, it is another version, which has to be published.
                "config": ConvertConfig(title=f"{out.name} {HOSTILE}", description=HOSTILE),
                "best": made / "best",
                "model_name": "boards",
                "model": out / "model",
            },
        }
        return load(step)(**arguments[step], store=HOME)
