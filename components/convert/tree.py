"""The published tree: what was made, under the names of a version."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import SAMPLES
from components.convert.card import model_card, run_settings
from components.convert.digest import tensors_digest
from components.convert.metadata import Facts, header_metadata
from components.convert.publish import Identity
from components.storage import digest_of, sha256_file


@dataclass(frozen=True)
class Made:
    """A version's files, before it has a name."""

    companion: Path  #: folder of everything that a diffusers pipeline needs but weights
    whole: Path | None  #: the model as one file
    lora: Path | None  #: its updates alone
    samples: Path | None  #: picture of what it draws

    def identity(self, facts: Facts) -> Identity:
        """What makes two publications of it the same."""
        files = [self.whole, self.lora] if self.whole is not None else [self.lora]
        digests = [tensors_digest(file) for file in files if file is not None]
        described = [
            header_metadata(facts),
            model_card(facts, ""),
            run_settings(facts),
            facts.trained_on and dataclasses.asdict(facts.trained_on),
            {
                path.relative_to(self.companion).as_posix(): sha256_file(path)
                for path in sorted(self.companion.rglob("*"))
                if path.is_file()
            },
            *digests[1:],
            *([sha256_file(self.samples)] if self.samples is not None else []),
        ]
        return Identity(digests[0], digest_of(described))


def lay_out(made: Made, facts: Facts, version: str, tree: Path) -> Path:
    """Put the files of `version` into the new folder `tree`: links, and no second copy of weights."""
    shutil.copytree(made.companion, tree / "config")
    for name, file in ((facts.whole_name(version), made.whole), (facts.lora_name(version), made.lora)):
        if file is not None:
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).hardlink_to(file)
    write_card(made, facts, version, tree)
    (tree / "config.yaml").write_text(run_settings(facts), encoding="utf-8")
    return tree


def write_card(made: Made, facts: Facts, version: str, folder: Path) -> None:
    """The model card of `version`, and the picture in it."""
    (folder / "README.md").write_text(model_card(facts, version), encoding="utf-8")
    if made.samples is not None:
        shutil.copyfile(made.samples, folder / SAMPLES)
