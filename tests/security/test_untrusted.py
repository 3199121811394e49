"""Names and files of others: pages escape them, nothing runs them, and no pickle is executed."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from components import report
from components.crop.images import Unreadable, displayed_size, read_mask
from components.errors import UserError
from components.storage import Store
from tests.components.crop.pictures import read_rgb
from tests.conftest import ROOT
from tests.security.chain import CLASSES, HOME, HOSTILE, PROMPTS, Chain
from tests.security.identities import OWNER

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: Elements that the template makes, and the attributes that they have.
ELEMENTS = {
    **{"html": {"lang"}, "meta": {"charset", "name", "content", "http-equiv"}, "img": {"src", "alt", "class"}},
    **{tag: {"class"} for tag in ("div", "td", "th", "tr", "p")},
    **{tag: set[str]() for tag in ("head", "title", "style", "body", "main", "h1", "h2", "table", "thead", "tbody")},
    **{tag: set[str]() for tag in ("figure", "figcaption")},
}
SOURCES = ("data:image/png;base64,", "data:image/svg+xml;base64,")


class Page(HTMLParser):
    """Every element and attribute of a page, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def check(self) -> None:
        for tag, attributes in self.found:
            assert tag in ELEMENTS
            assert attributes.keys() <= ELEMENTS[tag], (tag, attributes)
            assert (attributes.get("src") or SOURCES[0]).startswith(SOURCES)
        policies = [a["content"] for tag, a in self.found if a.get("http-equiv") == "Content-Security-Policy"]
        assert [" ".join((policy or "").split()) for policy in policies] == [POLICY]
        # It holds for what stands after it.
        policy = [a.get("http-equiv") for _, a in self.found].index("Content-Security-Policy")
        assert policy < self.found.index(("style", {}))


def pages(chain: Chain) -> dict[str, str]:
    """Every page that a run made, as files and as objects of the store."""
    found = {path.name: path.read_text(encoding="utf-8") for path in chain.out.rglob("*.html")}
    with chain.identities.acting(OWNER):
        store = Store.from_env(HOME)
        kept = [info.key for info in store.list() if info.key.endswith(".html")]
        found |= {key: (store.get_bytes(key) or b"").decode() for key in kept}
    return found


@pytest.mark.integration
def test_every_page_of_a_run_escapes_every_name(chain: Chain) -> None:
    found = pages(chain)
    assert {"crops.html", "training.html", "report.html", "decision.html"} <= found.keys()
    assert len(found) >= 8
    for text in found.values():
        Page(text).check()
    # The names are on the pages, whole: escaped, not left out.
    shown = {name: Page(text).text for name, text in found.items()}
    for name in CLASSES:
        assert name in shown["crops.html"]
        assert name in shown["report.html"]


@pytest.mark.integration
def test_a_refusals_page_escapes_every_name(chain: Chain, tmp_path: Path) -> None:
    with chain.identities.acting(OWNER):
        store = Store.from_env(HOME)
        name = next(info.key for info in store.list("datasets/boards/objects/"))
        kept = store.get_bytes(name) or b""
        from components.crop.config import CropConfig
        from components.crop.step import crop

        (tmp_path / "data" / HOSTILE[:60]).mkdir(parents=True)
        (tmp_path / "data" / HOSTILE[:60] / "a.png").write_bytes(kept[:40])
        (tmp_path / "data" / HOSTILE[:60] / "a_mask.png").write_bytes(kept[:40])
        with pytest.raises(UserError):
            crop(CropConfig(), str(tmp_path / "data"), "refused", tmp_path / "crops", tmp_path / "r.html", store=HOME)
        refused = [info.key for info in store.list("crop/refused") if info.key.endswith(".html")]
        assert refused
        Page((store.get_bytes(refused[0]) or b"").decode()).check()


@pytest.mark.integration
def test_names_run_in_no_shell_and_no_yaml(chain: Chain) -> None:
    assert not list(Path.cwd().glob("pwned*"))
    assert not list(chain.out.rglob("pwned*"))
    with chain.identities.acting(OWNER):
        store = Store.from_env(HOME)
        settings = [info.key for info in store.list("models/") if info.key.endswith("config.yaml")]
        said = yaml.safe_load(store.get_bytes(settings[0]) or b"")
    assert said["crop"]["prompts"] == PROMPTS
    assert set(json.loads((chain.out / "crops" / "crops.json").read_text())["classes"]) == set(CLASSES)


@pytest.mark.parametrize("place", ["title", "subtitle", "heading", "text", "header", "cell", "caption", "alt"])
def test_every_place_of_a_page_is_escaped(place: str) -> None:
    given = dict.fromkeys(("title", "subtitle", "heading", "text", "header", "cell", "caption", "alt"), "plain")
    given[place] = HOSTILE
    table = report.Table([given["header"]], [[given["cell"]]])
    figure = report.Figure(Image.new("RGB", (2, 2)), given["caption"], given["alt"])
    section = report.Section(given["heading"], [given["text"]], table, [figure])
    page = Page(report.render(given["title"], given["subtitle"], [section]))
    page.check()
    assert HOSTILE in page.text + "".join(str(a.get("alt")) for _, a in page.found)


# ------------------------------------------------------------------------------------------------ pictures


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _tiff(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    at = struct.unpack("<I", data[4:8])[0]
    for entry in range(struct.unpack("<H", data[at : at + 2])[0]):
        place = at + 2 + 12 * entry
        tag = struct.unpack("<H", data[place : place + 2])[0]
        if tag in (256, 257):
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
    return bytes(data)


def _text_bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    good = _png(2, 2, zlib.compress(b"\0\0\0" * 2))
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(200 << 20), 9))
    return good[:33] + bomb + good[33:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_png(60_000, 60_000, zlib.compress(bytes(1 << 20), 9)), "refused as too large"),
        (_tiff(60_000, 60_000), "refused as too large"),
        (_text_bomb(), "cannot be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not an image"),
    ],
    ids=["PNG", "TIFF", "PNG's text", "SVG"],
)
def test_a_picture_that_unpacks_to_too_much_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for read in (read_rgb, read_mask):
        with pytest.raises(Unreadable, match=message):
            read(path)
    if message.startswith("refused"):
        with pytest.raises(Unreadable, match=message):
            displayed_size(path)


def test_images_to_compare_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    from components.evaluate.folders import _batches

    (tmp_path / "a.png").write_bytes(_png(60_000, 60_000, zlib.compress(bytes(1 << 20), 9)))
    with pytest.raises(UserError, match=r"a\.png: refused as too large"):
        list(_batches([tmp_path / "a.png"]))


# ------------------------------------------------------------------------------------------------- pickles

#: The only places that read pickles: tensors alone, by torch's restricted reader.
READS_TENSORS = re.compile(r"torch\.load\((?!.*weights_only=True)")
FORBIDDEN = (
    READS_TENSORS,
    re.compile(r"allow_pickle\s*=\s*True"),
    re.compile(r"yaml\.(load|unsafe_load|full_load)\("),
    re.compile(r"shell\s*=\s*True|os\.system\(|os\.popen\(|\b(eval|exec)\((?!\))"),
    re.compile(r"extractall\(|trust_remote_code\s*=\s*True|MAX_IMAGE_PIXELS\s*=|use_safetensors\s*=\s*False"),
)


@pytest.mark.parametrize("folder", ["components", "pipelines"])
def test_no_source_reads_a_pickle_or_runs_a_text(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / folder).rglob("*.py")
        for pattern in FORBIDDEN
        for match in pattern.finditer(re.sub(r"\.eval\(\)", "", path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_pickles_pass_between_the_trainers_own_processes_alone() -> None:
    using = [p for p in (ROOT / "components").rglob("*.py") if re.search(r"pickle\.loads?\(", p.read_text())]
    assert [path.relative_to(ROOT).as_posix() for path in using] == ["components/train/processes.py"]


def test_a_script_that_would_run_when_it_is_loaded_is_refused(tmp_path: Path) -> None:
    import torch

    from components.evaluate.networks.inception import _read

    class Hostile(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))
            self.training = False

        @torch.jit.export
        def __getstate__(self) -> tuple[torch.Tensor, bool]:
            return self.weight, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
            self.weight = state[0]  # type: ignore[assignment]
            self.training = state[1]
            raise RuntimeError("ran")

        def forward(self) -> torch.Tensor:
            return self.weight

    torch.jit.script(Hostile()).save(str(tmp_path / "weights.pt"))
    with pytest.raises(UserError, match="runs code when it is loaded"):
        _read(tmp_path / "weights.pt")
