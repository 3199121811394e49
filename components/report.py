"""HTML reports: one self-contained page, readable in the KFP UI, from disk and on a phone.

Everything is inlined (images as data URIs, SVG plots) and a Content-Security-Policy forbids the
rest, so a page neither loads nor sends anything. Every string is escaped by the template.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

if TYPE_CHECKING:
    from PIL import Image

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Table:
    """Rows of cells; columns from `numbers_from` on are set flush right, and `sentences` is one that wraps."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: int | None = None  #: index of the row to emphasise
    numbers_from: int = 1
    sentences: int | None = None

    def style(self, column: int) -> str:
        """The class of a column's cells in the page; empty for words."""
        if column == self.sentences:
            return "sentences"
        return "number" if column >= self.numbers_from else ""


@dataclass(frozen=True)
class Figure:
    """A picture. `image` is an RGB or greyscale PIL image, or SVG text as `plot_svg` makes it."""

    image: Any
    caption: str = ""
    alt: str = ""
    pixelated: bool = False  #: show enlarged pixels sharp instead of blurred

    def markup(self) -> Markup:
        uri = _svg_uri(self.image) if isinstance(self.image, str) else png_uri(self.image)
        kind = Markup(' class="pixels"') if self.pixelated else Markup("")
        return Markup('<img src="{}" alt="{}"{}>').format(uri, self.alt or self.caption, kind)


@dataclass(frozen=True)
class Section:
    """A part of a page, shown in the order heading, text, table, figures."""

    heading: str = ""
    text: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[Figure] = field(default_factory=tuple)
    verdict: bool = False  #: set the text off as the page's conclusion
    tone: str = ""  #: of a verdict: "good", "bad" or neutral
    side_by_side: bool = False  #: set as many figures beside each other as the page is wide


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, subtitle=subtitle, sections=sections
    )


def write(path: Path, title: str, subtitle: str, sections: Sequence[Section]) -> None:
    """Write the page to `path`, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(title, subtitle, sections), encoding="utf-8")


def png_uri(image: Image.Image) -> str:
    """The image as a ``data:`` URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def contact_sheet(
    images: Sequence[Image.Image], columns: int, side: int, gap: int = 4, background: str = "white"
) -> Image.Image:
    """`images` in rows of `columns`, each resized to `side` × `side` pixels (enlarged by whole pixels)."""
    from PIL import Image

    rows = -(-len(images) // columns) if images else 1
    width, height = columns * (side + gap) + gap, rows * (side + gap) + gap
    sheet = Image.new("RGB", (width, height), background)
    for i, image in enumerate(images):
        how = Image.Resampling.NEAREST if image.width <= side else Image.Resampling.LANCZOS
        tile = image.convert("RGB").resize((side, side), how)
        sheet.paste(tile, (gap + (i % columns) * (side + gap), gap + (i // columns) * (side + gap)))
    return sheet
