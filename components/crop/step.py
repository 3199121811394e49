"""crop: square crops around every annotated defect, for training and, apart from it, for the metrics.

Reads annotations (`components.crop.formats`), decides on the crops (`plan`), cuts them (`cutting`), judges them
(`quality`) and shows them (`page`). Not covered: what the prompts mean to a model; augmentation, which is train's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from components.artifacts import NORMAL, SPLITS, CropSet, write_crops, write_json
from components.crop.config import CropConfig
from components.crop.cutting import Cuttings, cut_crops
from components.crop.lookalikes import across_the_split, to_drop
from components.crop.page import write_page
from components.crop.plan import Plan, count, plan_crops, require_both_splits
from components.crop.quality import Quality, judge
from components.crop.reading import Data, read_folder, refuse, undecodable
from components.crop.record import Record
from components.crop.staging import new_folder
from components.dataset import Opened, list_folder, local_copy, name_of
from components.parallel import cores
from components.progress import log
from components.revision import revision_read
from components.runtime import OutputPath, Result
from components.storage import digest_of


def crop(
    config: CropConfig, dataset: str, dataset_revision: str, crops: OutputPath, report: OutputPath, store: str = ""
) -> Result:
    """Cut the crops of a data set.

    Args:
        config: the step's settings.
        dataset: local folder or ``s3://bucket/prefix`` with annotated images, or an archive of them.
        dataset_revision: its digest, as snapshot gives it. Of a data set with versions, the version with this digest
            is read; of another, what is there: the revision that was read is recorded, and the one asked for.
        crops: folder to be written: ``crops.json``, ``quality.json``, and for each of the splits ``train`` and
            ``reference`` its ``metadata.jsonl``, images and masks (`components.artifacts`).
        report: HTML page to be written.
        store: ``s3://`` prefix that keeps the page and ``quality.json`` too, those of a refusal as well; none where
            it is empty.

    Returns:
        Metadata of `crops`: digest, resolution, and the number of crops for each class and split.

    Raises:
        UserError: nothing recognised, wrong or unreadable data (all of it, unless ``on_error`` is
            ``skip``), a class that lacks crops on one side. Nothing is written then but the page in the store.
        Unavailable: the object store does not answer.
    """
    record = Record(store, dataset_revision, config)
    with record.of_refusals(dataset), new_folder(crops, "crops.json") as folder:
        with local_copy(dataset, "dataset", revision=dataset_revision) as opened:
            files = list_folder(opened.root, "dataset")
            read = replace(opened, revision=revision_read(opened, files, dataset_revision, cores()))
            data = _readable(config, name_of(dataset), opened.root)
            plan = plan_crops(config, data.images)
            cut = cut_crops(config, opened.root, plan, folder)
            if config.on_error == "fail":
                refuse(cut.problems)
            twins = across_the_split(cut.made)
            dropped = set() if config.lookalikes == "keep" else to_drop(twins, count(m.planned for m in cut.made))
            kept = cut.without(dropped)
            require_both_splits(config, plan.classes, count(m.planned for m in kept.made))
            crop_set = _write_metadata(config, dataset, dataset_revision, read, plan, kept, folder)
            quality = judge(
                config, data.images, plan, kept.made, twins, dropped, crop_set, data.problems + cut.problems
            )
            write_json(folder / "quality.json", quality)
            write_page(report, config, crop_set, quality, data.images, cut, opened.root, folder)
            _remove(cut, dropped, folder)
        record.keep(report.read_text(encoding="utf-8"), quality)
    _log_counts(crop_set, quality)
    return Result(metadata={"crops": _metadata(crop_set)})


def _readable(config: CropConfig, name: str, root: Path) -> Data:
    """The annotations, refused where anything is wrong and nothing may be skipped."""
    data = read_folder(config.format, name, root, config.join)
    log(f"annotations of {name}: {data.format}, {data.summary}")
    if data.problems and config.on_error == "fail":
        # The pixels too, so that one round of repairs is enough.
        refuse([*data.problems, *undecodable(root, [image.path for image in data.images])])
    if not data.images:
        refuse(data.problems)
    return data


def _remove(cut: Cuttings, dropped: Collection[str], folder: Path) -> None:
    """Remove the files of the crops at the paths `dropped`, which the page has shown."""
    for m in cut.made:
        if m.path in dropped:
            (folder / m.path).unlink()
            if m.crop.mask_file_name is not None:
                (folder / m.planned.split / m.crop.mask_file_name).unlink()


def _write_metadata(
    config: CropConfig, dataset: str, asked: str, read: Opened, plan: Plan, kept: Cuttings, folder: Path
) -> CropSet:
    for split in SPLITS:
        write_crops(folder, split, [m.crop for m in kept.made if m.planned.split == split])
        if kept.normal:
            write_crops(folder / NORMAL, split, [m.crop for m in kept.normal if m.planned.split == split])
    crop_set = CropSet(
        resolution=config.resolution,
        classes=plan.classes,
        prompts={name: config.prompt_of(name) for name in plan.classes},
        counts=count(m.planned for m in kept.made),
        digest=digest_of([[m.path, m.digest] for m in kept.made] + [[m.path, m.digest] for m in kept.normal]),
        dataset=dataset,
        dataset_revision=read.revision,
        dataset_version=read.version,
        asked_revision=asked,
        settings=config.model_dump(mode="json"),
        normal={s: sum(m.planned.split == s for m in kept.normal) for s in SPLITS} if config.normal_per_image else {},
    )
    write_json(folder / "crops.json", crop_set)
    return crop_set


def _metadata(crop_set: CropSet) -> dict[str, str | int | float]:
    per_class = {f"{name} {split}": crop_set.counts[name][split] for name in crop_set.classes for split in SPLITS}
    normal = {f"defect-free {split}": number for split, number in crop_set.normal.items()}
    return {"digest": crop_set.digest, "resolution": crop_set.resolution, **per_class, **normal}


def _log_counts(crop_set: CropSet, quality: Quality) -> None:
    for verdict in quality.verdicts:
        few = "" if verdict.enough else " (few)"
        log(f"{verdict.defect}: {verdict.train} training crops, {verdict.reference} reference crops{few}")
        for note in verdict.notes:
            log(note)
    if crop_set.normal:
        log("defect-free: " + ", ".join(f"{number} {split} crops" for split, number in crop_set.normal.items()))
    if quality.problems:
        log(f"{len(quality.problems)} problems in the data were skipped; the report lists them")
