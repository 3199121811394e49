"""Whether a data set that changed is worth another model: `RetrainIf`, decided on the crops that there would be.

The crops of the revision that is there now are held against those of the revision that the model published last was
trained on: never against the last look, so that a run that failed is not held back. Where nothing can be held against
anything (no model, no record, other settings) everything is news. Not covered: how crops are planned
(`components.crop`), and whether the later steps then run, which their cache decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from components.artifacts import SPLITS, TrainedOn
from components.crop.config import CropConfig
from components.crop.survey import Inventory, inventory
from components.errors import UserError
from components.progress import log
from components.snapshot.config import RetrainIf
from components.snapshot.published import trained_on
from components.snapshot.record import Records
from components.storage import Store, digest_of


@dataclass(frozen=True)
class Seen:
    """What a run would depend on."""

    dataset: str  #: as the user named it
    dataset_revision: str
    base_revision: str
    generation: str
    model_name: str
    published_revision: str  #: version of the model published last; empty where there is none


class Verdict(NamedTuple):
    """What to give out."""

    revision: str  #: of the data set: the one that is there, or the one that the later steps know already
    news: str  #: a sentence for people


class Change(NamedTuple):
    """How the crops of two revisions differ."""

    new: int
    changed: int  #: the same place in another photograph of that name, or another extent of the defect
    gone: int

    @property
    def crops(self) -> int:
        """What counts: a crop in the place of another, such as one whose box was moved, counts once."""
        return self.changed + max(self.new, self.gone)


def decide(wanted: RetrainIf, crop_settings: CropConfig, seen: Seen, store: Store) -> Verdict:
    """Which revision of the data set the later steps are given, and why; the reasons are logged too.

    Raises:
        UserError, Unavailable: where the store refuses or does not answer.
    """
    if wanted.new_crops == 1:
        return Verdict(seen.dataset_revision, "any change of the data set is news")
    settings = digest_of(crop_settings.model_dump(mode="json"))
    records = Records(store.at("snapshots"), seen.dataset, settings, seen.generation)
    now = records.read(seen.dataset_revision)
    if now is None:
        try:
            now = inventory(crop_settings, seen.dataset, seen.dataset_revision)
        except UserError as error:
            first = str(error).splitlines()[0]
            return _news(seen, f"the crops cannot be counted, crop says it in full: {first}")
        records.write(seen.dataset_revision, now)
    if not seen.published_revision:
        return _news(seen, "no model published")
    before = trained_on(store, seen.model_name, seen.published_revision)
    if before is None:
        return _news(seen, f"it is not known what model {seen.published_revision} was made of")
    if reason := _incomparable(seen, before, settings):
        return _news(seen, reason)
    if before.dataset_revision == seen.dataset_revision:
        return _held(before, f"nothing new since model {seen.published_revision}")
    then = records.read(before.dataset_revision)
    if then is None:
        return _news(seen, f"no record of the crops that model {seen.published_revision} was trained on")
    return _compared(wanted, crop_settings, seen, before, then, now)


def _incomparable(seen: Seen, before: TrainedOn, settings: str) -> str:
    """Why the crops of `before` say nothing of what there is now; empty where they do."""
    model = f"model {seen.published_revision} was made"
    if before.dataset != seen.dataset:
        return f"{model} of another data set, {before.dataset}"
    if before.crop_settings != settings:
        return f"{model} with other crop settings"
    if before.base_revision != seen.base_revision:
        return f"{model} from another base model"
    return ""


def _compared(
    wanted: RetrainIf, crop_settings: CropConfig, seen: Seen, before: TrainedOn, then: Inventory, now: Inventory
) -> Verdict:
    change = difference(then, now)
    counted = (
        f"{change.new} new, {change.changed} changed and {change.gone} gone crops since model {seen.published_revision}"
    )
    reached = sorted(_enough(crop_settings, now) - _enough(crop_settings, then))
    if reached:
        return _news(seen, f"enough crops of {', '.join(reached)} now; {counted}")
    if change.crops >= wanted.new_crops:
        return _news(seen, counted)
    for name, missing in _missing(crop_settings, now).items():
        log(f"class {name} would be news with {missing}")
    return _held(before, f"{counted}: {change.crops} of the {wanted.new_crops} that are news (snapshot.retrain_if)")


def difference(then: Inventory, now: Inventory) -> Change:
    """How two revisions' crops differ."""
    both = then.crops.keys() & now.crops.keys()
    changed = sum(then.crops[crop] != now.crops[crop] for crop in both)
    return Change(len(now.crops) - len(both), changed, len(then.crops) - len(both))


def _least(crop_settings: CropConfig) -> dict[str, int]:
    return dict(zip(SPLITS, (crop_settings.min_train_per_class, crop_settings.min_reference_per_class)))


def _enough(crop_settings: CropConfig, crops: Inventory) -> set[str]:
    """The classes with the crop step's minimum on both sides of the split."""
    least = _least(crop_settings)
    return {name for name, counts in crops.counts.items() if all(counts[split] >= least[split] for split in SPLITS)}


def _missing(crop_settings: CropConfig, crops: Inventory) -> dict[str, str]:
    """Class → crops that it lacks, in words, for those below the minimum."""
    least = _least(crop_settings)
    lacking = {
        name: [f"{least[split] - counts[split]} more {split} crops" for split in SPLITS if counts[split] < least[split]]
        for name, counts in crops.counts.items()
    }
    return {name: " and ".join(parts) for name, parts in sorted(lacking.items()) if parts}


def _news(seen: Seen, why: str) -> Verdict:
    log(f"data set given out as it is: {why}")
    return Verdict(seen.dataset_revision, why)


def _held(before: TrainedOn, why: str) -> Verdict:
    log(f"no new training: {why}; given out is the revision trained on, {before.asked_revision[:12]}")
    return Verdict(before.asked_revision, why)
