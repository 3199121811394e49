"""The crop step's report: is there enough, what the crops look like, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw

from components import report
from components.artifacts import SPLITS, CropSet, Split
from components.crop.annotations import AnnotatedImage, Problem
from components.crop.config import CropConfig
from components.crop.cutting import Made
from components.crop.images import read_rgb
from components.crop.lookalikes import LookAlike, find_lookalikes
from components.crop.plan import Plan
from components.report import Figure, Section, Table

_COLUMNS, _TILE = 6, 128
_SHOWN: dict[Split, int] = {"train": 18, "reference": 12}
_ORIGINALS, _ORIGINAL_SIDE = 3, 760
_LISTED = 100
_PAIRS = 6
# Share of a class's reference crops with a training twin from which the conclusion says so.
_TWINS = 0.1
# Between tiles: crops may be white or black at their edges.
_GAP = "#aab4c0"
_DEFECT, _WINDOW = "#e5484d", "#0b6bcb"


def write_page(
    path: Path,
    config: CropConfig,
    crop_set: CropSet,
    images: Sequence[AnnotatedImage],
    plan: Plan,
    made: Sequence[Made],
    problems: Sequence[Problem],
    root: Path,
    folder: Path,
) -> None:
    """Write the HTML page to `path`; source images are below `root`, crops below `folder`."""
    twins = find_lookalikes(made)
    sections = [
        _verdict(config, crop_set, twins),
        _counts(config, crop_set, images, made),
        *(_crops_of(name, config, made, folder) for name in crop_set.classes),
        *_lookalikes(twins, made, folder),
        _originals(made, root),
        *_left_out(plan),
        *_skipped(problems),
    ]
    good = sum(not image.defects for image in images)
    version = f"version {crop_set.dataset_version} · " if crop_set.dataset_version else ""
    subtitle = (
        f"{crop_set.dataset} · {version}revision {crop_set.dataset_revision[:12]} · {len(images)} images, {good} "
        f"of them without a defect · crops of {crop_set.resolution} × {crop_set.resolution} pixels"
    )
    report.write(path, "Crops", subtitle, sections)


def too_few(config: CropConfig, crop_set: CropSet) -> list[str]:
    """A sentence for each class and split with fewer crops than the settings ask for."""
    wanted = {"train": config.min_train_per_class, "reference": config.min_reference_per_class}
    what = {"train": "to train on", "reference": "to measure against"}
    return [
        f"{name}: {crop_set.counts[name][split]} crops {what[split]}, {wanted[split]} or more are advised."
        for name in crop_set.classes
        for split in SPLITS
        if crop_set.counts[name][split] < wanted[split]
    ]


def _verdict(config: CropConfig, crop_set: CropSet, twins: Sequence[LookAlike]) -> Section:
    few = too_few(config, crop_set)
    total = len(crop_set.classes)
    if few:
        lacking = len({sentence.split(":")[0] for sentence in few})
        text = [
            f"{lacking} of {total} classes have few crops; metrics of few images are uncertain.",
            *few,
            "Annotate more images of them, raise a limit that is set, or leave them out with crop.classes.",
        ]
    else:
        text = [
            f"All {total} classes have enough crops." if total > 1 else "The class has enough crops.",
            f"At least {config.min_train_per_class} to train on and {config.min_reference_per_class} held out for "
            "the metrics. Held-out crops come from images that no training crop was cut from.",
        ]
    alike = Counter(pair.reference.crop.defect for pair in twins)
    suspicious = [
        f"{name}: {alike[name]} of {crop_set.counts[name]['reference']} held-out crops look almost the same as a "
        "training crop (pictured below). If they show the same part, metrics read too well; the setting "
        "crop.same_part keeps images of one part together."
        for name in crop_set.classes
        if alike[name] > _TWINS * crop_set.counts[name]["reference"]
    ]
    tone = "bad" if few else "" if suspicious else "good"
    return Section(text=text + suspicious, verdict=True, tone=tone)


def _counts(config: CropConfig, crop_set: CropSet, images: Sequence[AnnotatedImage], made: Sequence[Made]) -> Section:
    sizes = {image.path: image.size for image in images}
    rows = []
    for name in crop_set.classes:
        of_class = [m.planned for m in made if m.planned.defect.defect == name]
        longest = [max(b[2] - b[0], b[3] - b[1]) for b in (p.defect.box for p in of_class)]
        windows = [p.window[2] - p.window[0] for p in of_class]
        rows.append(
            [
                name,
                *(str(crop_set.counts[name][split]) for split in SPLITS),
                *(str(len({p.source for p in of_class if p.split == split})) for split in SPLITS),
                f"{median(longest):.0f} ({min(longest)}–{max(longest)})",
                f"{median(windows):.0f} ({min(windows)}–{max(windows)})",
            ]
        )
    sides = [(m.planned.window[2] - m.planned.window[0], min(sizes[m.planned.source])) for m in made]
    reduced = sum(side > config.resolution for side, _ in sides)
    reflected = sum(side > shortest for side, shortest in sides)
    text = [
        f"{len(sides) - reduced} of {len(sides)} crops are at the images' own resolution, {reduced} are reduced "
        f"because the defect with its surroundings is larger than {config.resolution} pixels."
    ]
    if reflected:
        text.append(f"{reflected} crops are larger than their image and filled with its reflection.")
    text.append("Sizes are in pixels: the median, and the smallest and largest.")
    header = ["class", "train", "reference", "train images", "reference images", "defect", "cut out"]
    return Section("Counts", text, Table(header, rows))


def _crops_of(name: str, config: CropConfig, made: Sequence[Made], folder: Path) -> Section:
    figures = []
    for split in SPLITS:
        of_split = [m for m in made if m.planned.defect.defect == name and m.planned.split == split]
        shown = _spread(of_split, _SHOWN[split])
        sheet = _sheet([folder / split / m.crop.file_name for m in shown], _COLUMNS)
        purpose = "training" if split == "train" else "reference, held out for the metrics"
        caption = f"{name}, {purpose}: {len(shown)} of {len(of_split)} crops"
        figures.append(Figure(sheet, caption, pixelated=config.resolution <= _TILE))
    return Section(name, [f"Prompt: {config.prompt_of(name)}"], figures=figures)


def _sheet(paths: Sequence[Path], columns: int) -> Image.Image:
    tiles = []
    for path in paths:
        with Image.open(path) as image:
            tiles.append(image.convert("RGB"))
    return report.contact_sheet(tiles, columns, _TILE, background=_GAP)


def _lookalikes(twins: Sequence[LookAlike], made: Sequence[Made], folder: Path) -> list[Section]:
    if not twins:
        return []
    held_out = sum(m.planned.split == "reference" for m in made)
    shown = twins[:_PAIRS]
    above = [folder / "reference" / pair.reference.crop.file_name for pair in shown]
    below = [folder / "train" / pair.train.crop.file_name for pair in shown]
    caption = (
        "Above, held-out crops; below, the training crop that each resembles: "
        + "; ".join(f"{p.reference.crop.source} and {p.train.crop.source}" for p in shown)
        + "."
    )
    text = [
        f"{len(twins)} of {held_out} held-out crops look almost the same as a training crop of another image. Plain "
        "scenes do so by chance; one part photographed several times does so always."
    ]
    sheet = _sheet([*above, *below], len(shown))
    return [Section("Look-alikes on both sides", text, figures=[Figure(sheet, caption)])]


def _originals(made: Sequence[Made], root: Path) -> Section:
    by_source: dict[str, list[Made]] = {}
    for m in made:
        by_source.setdefault(m.planned.source, []).append(m)
    figures = []
    for source in _spread(sorted(by_source), _ORIGINALS):
        image = read_rgb(root / source)
        scale = min(1.0, _ORIGINAL_SIDE / max(image.size))
        small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        draw = ImageDraw.Draw(small)
        for m in by_source[source]:
            for box, colour, width in ((m.planned.window, _WINDOW, 1), (m.planned.defect.box, _DEFECT, 2)):
                x0, y0, x1, y1 = (v * scale for v in box)
                draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)
        split = by_source[source][0].planned.split
        names = ", ".join(sorted({m.planned.defect.defect for m in by_source[source]}))
        figures.append(Figure(small, f"{source} ({split}): {names}. Red: the defect. Blue: what was cut out."))
    return Section("Images and what was cut from them", figures=figures)


def _left_out(plan: Plan) -> list[Section]:
    rows = [
        [name, reason, str(number)]
        for name, reasons in sorted(plan.left_out.items())
        for reason, number in sorted(reasons.items())
    ]
    if not rows:
        return []
    return [Section("Left out by the settings", table=Table(["class", "reason", "defects"], rows, numbers_from=2))]


def _skipped(problems: Sequence[Problem]) -> list[Section]:
    if not problems:
        return []
    rows = [[problem.path, problem.what] for problem in problems[:_LISTED]]
    text = [f"{len(problems)} problems in the data; what they concern is not in the crops."]
    if len(problems) > _LISTED:
        text.append(f"The first {_LISTED} are shown.")
    return [Section("Skipped", text, Table(["file", "problem"], rows, numbers_from=2))]


def _spread(items: Sequence, most: int) -> list:
    """At most `most` of the items, evenly spread."""
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(most, len(items)))]
