"""crop: square crops around every annotated defect, for training and, apart from it, for the metrics.

Reads annotations (`components.crop.formats`), decides on the crops (`plan`), cuts them (`cutting`) and
shows them (`page`). Not covered: what the prompts mean to a model; augmentation, which is train's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.artifacts import SPLITS, CropSet, write_crops, write_json
from components.crop.annotations import Annotated, AnnotatedImage, Format, Problem
from components.crop.config import CropConfig
from components.crop.cutting import Made, cut_crops
from components.crop.formats import recognise
from components.crop.images import Unreadable, read_rgb
from components.crop.page import write_page
from components.crop.plan import Plan, count, plan_crops, require_both_splits
from components.crop.staging import new_folder
from components.dataset import list_folder, local_copy, name_of
from components.errors import UserError
from components.parallel import cores, parallel
from components.progress import Progress, log
from components.runtime import OutputPath, Result
from components.storage import digest_of

_LISTED = 20


def crop(config: CropConfig, dataset: str, dataset_revision: str, crops: OutputPath, report: OutputPath) -> Result:
    """Cut the crops of a data set.

    Args:
        config: the step's settings.
        dataset: local folder or ``s3://bucket/prefix`` with annotated images, or an archive of them.
        dataset_revision: its digest, as snapshot gives it; recorded in the output. Of a data set with versions,
            the version with this digest is read.
        crops: folder to be written: ``crops.json``, and for each of the splits ``train`` and
            ``reference`` its ``metadata.jsonl``, images and masks (`components.artifacts`).
        report: HTML page to be written.

    Returns:
        Metadata of `crops`: digest, resolution, and the number of crops for each class and split.

    Raises:
        UserError: nothing recognised, wrong or unreadable data (all of it, unless ``on_error`` is
            ``skip``), a class that lacks crops on one side. Nothing is written then.
        Unavailable: the object store does not answer.
    """
    workers = cores()
    name = name_of(dataset)
    with (
        local_copy(dataset, "dataset", revision=dataset_revision) as opened,
        new_folder(crops, "crops.json") as folder,
    ):
        root = opened.root
        files = [file.path for file in list_folder(root, "dataset")]
        form, found = recognise(config.format, name, root, files)
        log(f"annotations of {name}: {form.name}, {found.summary}")
        images, problems = read_annotations(form, config, name, root, found.images, workers)
        problems = sorted([*found.problems, *problems])
        if problems and config.on_error == "fail":
            # The pixels too, so that one round of repairs is enough.
            problems += _undecodable(root, [i.path for i in images], workers)
            refuse(problems)
        if not images:
            refuse(problems)
        plan = plan_crops(config, images)
        made, unreadable = cut_crops(config, root, plan.crops, folder, workers)
        problems += unreadable
        if config.on_error == "fail":
            refuse(problems)
        require_both_splits(config, plan.classes, count(m.planned for m in made))
        crop_set = _write_metadata(config, dataset, dataset_revision, opened.version, plan, made, folder)
        write_page(report, config, crop_set, images, plan, made, problems, root, folder)
    _log_counts(config, crop_set, problems)
    return Result(metadata={"crops": _metadata(crop_set)})


def read_annotations(
    form: Format, config: CropConfig, dataset: str, root: Path, items: Sequence[Annotated], workers: int
) -> tuple[list[AnnotatedImage], list[Problem]]:
    """The annotations of all images that can be read, and everything that is wrong with the others."""

    def work(item: Annotated) -> AnnotatedImage | Problem:
        try:
            return form.read(dataset, root, item, config.join)
        except Unreadable as error:
            return Problem(item.image, str(error))

    results = parallel(work, items, workers, Progress("annotations", len(items), unit="image"))
    images = [result for result in results if isinstance(result, AnnotatedImage)]
    problems = [result for result in results if isinstance(result, Problem)]
    return images, problems + [p for image in images for p in image.problems]


def _undecodable(root: Path, sources: Sequence[str], workers: int) -> list[Problem]:
    def work(source: str) -> Problem | None:
        try:
            read_rgb(root / source)
        except Unreadable as error:
            return Problem(source, str(error))
        return None

    progress = Progress("checking the other images", len(sources), unit="image")
    return [p for p in parallel(work, sources, workers, progress) if p is not None]


def refuse(problems: Sequence[Problem]) -> None:
    """Stop over wrong data.

    Raises:
        UserError: when there is any problem: the first ones, their number and the remedy.
    """
    if not problems:
        return
    lines = [f"  - {problem}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  - and {len(problems) - _LISTED} more")
    raise UserError(
        f"{len(problems)} problems in the data; repair them, or leave them out with crop.on_error: skip\n"
        + "\n".join(lines)
    )


def _write_metadata(
    config: CropConfig, dataset: str, revision: str, version: str, plan: Plan, made: Sequence[Made], folder: Path
) -> CropSet:
    for split in SPLITS:
        write_crops(folder, split, [m.crop for m in made if m.planned.split == split])
    crop_set = CropSet(
        resolution=config.resolution,
        classes=plan.classes,
        prompts={name: config.prompt_of(name) for name in plan.classes},
        counts=count(m.planned for m in made),
        digest=digest_of([[m.planned.split, m.digest] for m in made]),
        dataset=dataset,
        dataset_revision=revision,
        dataset_version=version,
        settings=config.model_dump(mode="json"),
    )
    write_json(folder / "crops.json", crop_set)
    return crop_set


def _metadata(crop_set: CropSet) -> dict[str, str | int | float]:
    per_class = {f"{name} {split}": crop_set.counts[name][split] for name in crop_set.classes for split in SPLITS}
    return {"digest": crop_set.digest, "resolution": crop_set.resolution, **per_class}


def _log_counts(config: CropConfig, crop_set: CropSet, problems: Sequence[Problem]) -> None:
    for name in crop_set.classes:
        train, reference = (crop_set.counts[name][split] for split in SPLITS)
        few = train < config.min_train_per_class or reference < config.min_reference_per_class
        log(f"{name}: {train} training crops, {reference} reference crops{' (few)' if few else ''}")
    if problems:
        log(f"{len(problems)} problems in the data were skipped; the report lists them")
