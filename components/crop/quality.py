"""What is good and bad about a data set and the crops made of it: numbers and sentences, for people and programs.

`judge` looks at everything that was found on the way; the page (`page`) shows it, ``quality.json`` holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from components.artifacts import SPLITS, CropSet
from components.crop.annotations import AnnotatedImage, Problem
from components.crop.config import CropConfig
from components.crop.cutting import Made
from components.crop.lookalikes import LookAlike, with_twins, within_training
from components.crop.looks import flaws, soft_throughout, usual_blur
from components.crop.plan import Plan, Planned

#: Share of a class's held-out crops with a training twin, or of its crops with a flaw, from which the verdict says so.
NOTABLE = 0.1

_PURPOSE = {"train": "to train on", "reference": "to measure against"}


@dataclass(frozen=True)
class Verdict:
    """Whether a class has enough crops, and what else to know of it."""

    defect: str
    train: int
    reference: int
    enough: bool
    lacks: list[str]  #: a sentence for each side with fewer crops than are advised
    notes: list[str]  #: sentences on look-alikes and flaws


@dataclass(frozen=True)
class Flawed:
    """A crop that is blank, blurred, under-exposed or over-exposed."""

    file: str  #: relative to the crops' folder
    source: str
    defect: str
    flaws: list[str]


@dataclass(frozen=True)
class Pair:
    """Two crops that look the same."""

    file: str
    other: str
    correlation: float  #: of their thumbnails
    identical: bool  #: whether all pixels are the same


@dataclass(frozen=True)
class Quality:
    """``quality.json``."""

    images: int = 0  #: annotated images
    good_images: int = 0  #: those of them without a defect
    verdicts: list[Verdict] = field(default_factory=list)
    flawed: list[Flawed] = field(default_factory=list)
    usual_blur: float = 0.0  #: the median of the crops' blur measures, 0 (sharp) to 1
    soft: bool = False  #: whether the data set is blurred as a whole
    across_the_split: list[Pair] = field(default_factory=list)  #: held-out crop, training crop
    dropped: list[str] = field(default_factory=list)  #: training crops left out for that
    within_training: list[Pair] = field(default_factory=list)  #: training crop, earlier training crop
    normal: dict[str, int] = field(default_factory=dict)  #: split → defect-free crops
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)  #: class → reason → defects or crops
    problems: list[Problem] = field(default_factory=list)  #: what is wrong with the data
    schema: int = 1


def judge(
    config: CropConfig,
    images: Sequence[AnnotatedImage],
    plan: Plan,
    kept: Sequence[Made[Planned]],
    twins: Sequence[LookAlike],
    dropped: Collection[str],
    crop_set: CropSet,
    problems: Sequence[Problem],
) -> Quality:
    """Look at what a data set gave.

    Args:
        kept: the crops around defects, without those that were dropped.
        twins: look-alikes across the split, before any was dropped.
        dropped: paths of the training crops that were left out for that.
    """
    counts = crop_set.counts
    looks = [m.look for m in kept]
    flawed = [
        Flawed(m.path, m.crop.source, m.crop.defect, wrong)
        for m, wrong in zip(kept, flaws(looks), strict=True)
        if wrong
    ]
    return Quality(
        images=len(images),
        good_images=sum(not image.defects for image in images),
        verdicts=[_verdict(config, name, counts[name], twins, dropped, flawed) for name in sorted(counts)],
        flawed=flawed,
        usual_blur=round(usual_blur(looks), 3),
        soft=soft_throughout(looks),
        across_the_split=[_pair(twin) for twin in twins],
        dropped=sorted(dropped),
        within_training=[_pair(repeat) for repeat in within_training(kept)],
        normal=dict(crop_set.normal),
        left_out=_left_out(plan, twins, dropped),
        problems=list(problems),
    )


def _left_out(plan: Plan, twins: Sequence[LookAlike], dropped: Collection[str]) -> dict[str, dict[str, int]]:
    counts = {name: Counter(reasons) for name, reasons in plan.left_out.items()}
    for name, path in {(twin.other.crop.defect, twin.other.path) for twin in twins}:
        if path in dropped:
            counts.setdefault(name, Counter())["training crops that repeat a held-out one"] += 1
    return {name: dict(sorted(reasons.items())) for name, reasons in sorted(counts.items())}


def _pair(alike: LookAlike) -> Pair:
    return Pair(alike.crop.path, alike.other.path, round(alike.correlation, 4), alike.identical)


def _verdict(
    config: CropConfig,
    name: str,
    counts: Mapping[str, int],
    twins: Sequence[LookAlike],
    dropped: Collection[str],
    flawed: Sequence[Flawed],
) -> Verdict:
    wanted = {"train": config.min_train_per_class, "reference": config.min_reference_per_class}
    lacks = [
        f"{name}: {counts[split]} crops {_PURPOSE[split]}, {wanted[split]} or more are advised."
        for split in SPLITS
        if counts[split] < wanted[split]
    ]
    of_class = [twin for twin in twins if twin.crop.crop.defect == name]
    notes = []
    if (alike := with_twins(of_class)[name]) > NOTABLE * counts["reference"]:
        gone = len({twin.other.path for twin in of_class} & set(dropped))
        done = (
            f"the {gone} training crops were left out"
            if gone
            else "none was left out, so that metrics of this class read too well if they show the same part"
        )
        notes.append(
            f"{name}: {alike} of {counts['reference']} held-out crops look almost the same as a training crop "
            f"(pictured below); {done}. The setting crop.same_part keeps images of one part together."
        )
    poor = [crop for crop in flawed if crop.defect == name]
    if len(poor) > NOTABLE * (counts["train"] + counts["reference"]):
        kinds = ", ".join(sorted({flaw for crop in poor for flaw in crop.flaws}))
        notes.append(f"{name}: {len(poor)} of its {counts['train'] + counts['reference']} crops are {kinds}.")
    return Verdict(name, counts["train"], counts["reference"], not lacks, lacks, notes)
