"""The crop step's report: is there enough, what the crops look like, what is wrong with some, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw

from components import decoding, report
from components.artifacts import SPLITS, CropSet, Split
from components.crop.annotations import AnnotatedImage, Problem
from components.crop.config import CropConfig
from components.crop.cutting import Cuttings, Made
from components.crop.images import picture
from components.crop.plan import Area, Planned
from components.crop.quality import Pair, Quality
from components.crop.window import Box
from components.errors import UserError
from components.report import Figure, Section, Table

_COLUMNS, _TILE = 6, 128
_SHOWN: dict[Split, int] = {"train": 18, "reference": 12}
_ORIGINALS, _ORIGINAL_SIDE = 3, 760
_LISTED = 100
_PAIRS = 6
_FLAWED = 18
# Between tiles: crops may be white or black at their edges.
_GAP = "#aab4c0"
_DEFECT, _WINDOW, _NORMAL = "#e5484d", "#0b6bcb", "#12734a"


def write_page(
    path: Path,
    config: CropConfig,
    crop_set: CropSet,
    quality: Quality,
    images: Sequence[AnnotatedImage],
    cut: Cuttings,
    root: Path,
    folder: Path,
) -> None:
    """Write the HTML page to `path`; source images are below `root`, crops below `folder`."""
    made = cut.without(quality.dropped).made
    sources = {m.path: m.crop.source for m in cut.made}
    sections = [
        _verdict(config, quality),
        _counts(config, crop_set, images, made),
        *(_crops_of(name, config, made, folder) for name in crop_set.classes),
        *_normal(config, cut.normal, folder),
        *_flawed(quality, folder),
        *_across(quality, sources, folder),
        *_repeats(quality, sources, folder),
        *_originals(made, cut.normal, root),
        *_left_out(quality),
        *_skipped(quality.problems),
    ]
    version = f"version {crop_set.dataset_version} · " if crop_set.dataset_version else ""
    subtitle = (
        f"{crop_set.dataset} · {version}revision {crop_set.dataset_revision[:12]} · {quality.images} images, "
        f"{quality.good_images} of them without a defect · crops of {crop_set.resolution} × {crop_set.resolution} "
        "pixels"
    )
    report.write(path, "Crops", subtitle, sections)


def refusal(dataset: str, error: UserError, found: Sequence[Problem]) -> str:
    """The page of a data set that was refused: why, and all problems in the data, as HTML."""
    why = [f"{len(found)} problems in the data: no crop was cut."] if found else list(error.problems)
    return report.render(
        "Crops", f"{dataset} · refused", [Section(text=why, verdict=True, tone="bad"), *_listed(found)]
    )


def _verdict(config: CropConfig, quality: Quality) -> Section:
    verdicts = quality.verdicts
    lacking = [verdict for verdict in verdicts if not verdict.enough]
    if lacking:
        text = [
            f"{len(lacking)} of {len(verdicts)} classes have few crops; metrics of few images are uncertain.",
            *(sentence for verdict in lacking for sentence in verdict.lacks),
            "Annotate more images of them, raise a limit that is set, or leave them out with crop.classes.",
        ]
        enough = [verdict.defect for verdict in verdicts if verdict.enough]
        if enough:
            text.insert(1, f"Enough: {', '.join(enough)}.")
    else:
        text = [
            f"All {len(verdicts)} classes have enough crops." if len(verdicts) > 1 else "The class has enough crops.",
            f"At least {config.min_train_per_class} to train on and {config.min_reference_per_class} held out for "
            "the metrics. Held-out crops come from images that no training crop was cut from.",
        ]
    notes = [note for verdict in verdicts for note in verdict.notes]
    if quality.soft:
        notes.append(
            f"The images are soft throughout (blur measure {quality.usual_blur:.2f}; sharp crops read below 0.35): a "
            "model trained on them draws soft pictures."
        )
    tone = "bad" if lacking else "" if notes else "good"
    return Section(text=text + notes, verdict=True, tone=tone)


def _counts(
    config: CropConfig, crop_set: CropSet, images: Sequence[AnnotatedImage], made: Sequence[Made[Planned]]
) -> Section:
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


def _crops_of(name: str, config: CropConfig, made: Sequence[Made[Planned]], folder: Path) -> Section:
    figures = []
    for split in SPLITS:
        of_split = [m for m in made if m.planned.defect.defect == name and m.planned.split == split]
        shown = _spread(of_split, _SHOWN[split])
        sheet = _sheet([folder / m.path for m in shown], _COLUMNS)
        purpose = "training" if split == "train" else "reference, held out for the metrics"
        caption = f"{name}, {purpose}: {len(shown)} of {len(of_split)} crops"
        figures.append(Figure(sheet, caption, pixelated=config.resolution <= _TILE))
    prompts = config.prompts_of(name)
    return Section(name, [f"{'Prompts' if len(prompts) > 1 else 'Prompt'}: {'; '.join(prompts)}"], figures=figures)


def _normal(config: CropConfig, normal: Sequence[Made[Area]], folder: Path) -> list[Section]:
    if not normal:
        return []
    train = [m for m in normal if m.planned.split == "train"]
    text = [
        f"Prompt: {config.prompt_of_normal()}",
        f"{len(train)} to train with, {len(normal) - len(train)} held out; at most {config.normal_per_image} an image, "
        "where there is room beside its defects.",
    ]
    shown = _spread(normal, _SHOWN["train"])
    sheet = _sheet([folder / m.path for m in shown], _COLUMNS)
    caption = f"defect-free: {len(shown)} of {len(normal)} crops"
    return [Section("Defect-free areas", text, figures=[Figure(sheet, caption, pixelated=config.resolution <= _TILE)])]


def _flawed(quality: Quality, folder: Path) -> list[Section]:
    flawed = quality.flawed
    if not flawed:
        return []
    shown = _spread(flawed, _FLAWED)
    caption = "; ".join(f"{crop.source} ({', '.join(crop.flaws)})" for crop in shown)
    text = [
        f"{len(flawed)} of the crops may be poor examples. They were kept; where they are, remove their annotations.",
        "Blurred: much softer than the data set's other crops. Blank: less than 12 grey levels apart. Over- and "
        "under-exposed: 40 % of the pixels or more are white, or black.",
    ]
    sheet = _sheet([folder / crop.file for crop in shown], _COLUMNS)
    rows = [[crop.source, crop.defect, ", ".join(crop.flaws)] for crop in flawed[:_LISTED]]
    table = Table(["image", "class", "looks"], rows, numbers_from=3)
    return [Section("Crops to look at", text, table, [Figure(sheet, caption)])]


def _sheet(paths: Sequence[Path], columns: int) -> Image.Image:
    tiles = [decoding.read(path, "RGB") for path in paths]
    return report.contact_sheet(tiles, columns, _TILE, background=_GAP)


def _across(quality: Quality, sources: Mapping[str, str], folder: Path) -> list[Section]:
    pairs = quality.across_the_split
    if not pairs:
        return []
    held_out = sum(verdict.reference for verdict in quality.verdicts)
    text = [
        f"{len({pair.file for pair in pairs})} of {held_out} held-out crops look almost the same as a training crop of "
        f"another image; {len(quality.dropped)} training crops were left out for that. Plain scenes look alike by "
        "chance; one part photographed several times does so always."
    ]
    figure = _pairs(pairs, sources, folder, "Above, held-out crops; below, the training crop that each resembles")
    return [Section("Look-alikes on both sides", text, figures=[figure])]


def _repeats(quality: Quality, sources: Mapping[str, str], folder: Path) -> list[Section]:
    pairs = quality.within_training
    if not pairs:
        return []
    identical = sum(pair.identical for pair in pairs)
    text = [
        f"{len(pairs)} training crops look almost the same as another one, {identical} of them pixel for pixel. They "
        "were kept; a scene that is there several times weighs as much more, and is learnt by heart sooner."
    ]
    figure = _pairs(pairs, sources, folder, "Above, training crops; below, the one that each resembles")
    return [Section("Repeated training crops", text, figures=[figure])]


def _pairs(pairs: Sequence[Pair], sources: Mapping[str, str], folder: Path, what: str) -> Figure:
    shown = pairs[:_PAIRS]
    names = "; ".join(f"{sources[pair.file]} and {sources[pair.other]}" for pair in shown)
    return Figure(
        _sheet([folder / p.file for p in shown] + [folder / p.other for p in shown], len(shown)), f"{what}: {names}."
    )


def _originals(made: Sequence[Made[Planned]], normal: Sequence[Made[Area]], root: Path) -> list[Section]:
    by_source: dict[str, list[Made[Planned]]] = {}
    for m in made:
        by_source.setdefault(m.planned.source, []).append(m)
    figures = []
    for source in _spread(sorted(by_source), _ORIGINALS):
        with picture(root / source) as image:
            scale = min(1.0, _ORIGINAL_SIDE / max(image.size))
            small = image.shrunk(_ORIGINAL_SIDE)
        draw = ImageDraw.Draw(small)
        for m in by_source[source]:
            for box, colour, width in ((m.planned.window, _WINDOW, 1), (m.planned.defect.box, _DEFECT, 2)):
                _outline(draw, box, scale, colour, width)
        for area in (m.planned for m in normal if m.planned.source == source):
            _outline(draw, area.window, scale, _NORMAL, 1)
        split = by_source[source][0].planned.split
        green = " Green: defect-free." if any(m.planned.source == source for m in normal) else ""
        names = ", ".join(sorted({m.planned.defect.defect for m in by_source[source]}))
        figures.append(Figure(small, f"{source} ({split}): {names}. Red: the defect. Blue: what was cut out.{green}"))
    return [Section("Images and what was cut from them", figures=figures)]


def _outline(draw: ImageDraw.ImageDraw, box: Box, scale: float, colour: str, width: int) -> None:
    x0, y0, x1, y1 = (v * scale for v in box)
    draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)


def _left_out(quality: Quality) -> list[Section]:
    rows = [[name, why, str(number)] for name, reasons in quality.left_out.items() for why, number in reasons.items()]
    if not rows:
        return []
    return [Section("Left out by the settings", table=Table(["class", "reason", "number"], rows, numbers_from=2))]


def _skipped(problems: Sequence[Problem]) -> list[Section]:
    if not problems:
        return []
    text = [f"{len(problems)} problems in the data; what they concern is not in the crops."]
    return _listed(problems, "Skipped", text)


def _listed(problems: Sequence[Problem], heading: str = "Problems", text: Sequence[str] = ()) -> list[Section]:
    if not problems:
        return []
    rows = [[problem.path, problem.what] for problem in problems[:_LISTED]]
    more = [f"The first {_LISTED} are shown."] if len(problems) > _LISTED else []
    return [Section(heading, [*text, *more], Table(["file", "problem"], rows, sentences=1))]


def _spread(items: Sequence, most: int) -> list:
    """At most `most` of the items, evenly spread."""
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(most, len(items)))]
