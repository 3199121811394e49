"""The READMEs: every file has its line, every link and picture is there, every command exists and is whole."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from components import runtime
from components.__main__ import load as step_of
from components.given_settings import override
from components.settings import decode
from pipelines.__main__ import parser
from pipelines.config import load
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def sections() -> dict[str, set[str]]:
    """Folder → file names, as the map of files lists them."""
    found: dict[str, set[str]] = {}
    folder = ""
    for line in README.splitlines():
        if match := re.fullmatch(r"\*\*`([\w/]+)/`\*\*", line):
            folder = match[1]
        elif folder and (match := re.match(r"\| `([\w./]+)` \|", line)):
            found.setdefault(folder, set()).add(match[1])
    return found


def test_every_source_file_has_its_line() -> None:
    listed = {f"{folder}/{name}" for folder, names in sections().items() for name in names}
    there = {
        path.relative_to(ROOT).as_posix()
        for top in ("components", "pipelines")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".html", ".yaml") and path.read_text(encoding="utf-8").strip()
    }
    empty_inits = {path for path in there if path.endswith("/__init__.py")} - listed
    assert listed - there == set(), "listed, but not there"
    assert there - listed - empty_inits == set(), "there, but not listed"


def test_every_link_and_picture_is_there() -> None:
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in t]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_every_make_target_named_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z][a-z0-9-]+)", README, flags=re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize(
    "path",
    sorted(p for p in ROOT.rglob("README.md") if ".venv" not in p.parts and "runs" not in p.parts),
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_no_readme_has_an_open_place(path: object) -> None:
    assert "@@" not in path.read_text(encoding="utf-8")  # type: ignore[attr-defined]


def test_the_commands_are_those_that_the_help_lists() -> None:
    text = parser().format_help()
    for command in ("run", "study", "generate", "dataset", "mirror", "models", "gc", "compile", "settings"):
        assert command in text
    for command in ("submit", "status", "logs", "cancel", "outputs", "schedule", "mirror-list"):
        assert command in text


def shown_commands() -> list[str]:
    """The commands that the README shows, each on one line and without its remark."""
    joined = re.sub(r"\\\n\s*", "", README)
    found = re.findall(r"^    (?:make|\.venv/bin/python) .*", joined, flags=re.MULTILINE)
    return [re.sub(r"\s+# .*", "", command.strip()) for command in found]


def test_commands_are_shown() -> None:
    assert len(shown_commands()) > 30


@pytest.mark.parametrize("command", shown_commands())
def test_a_shown_command_is_one_that_the_command_line_takes(command: str) -> None:
    words = shlex.split(command)
    lines = [command]
    if words[0] == "make":
        # What make would run, without running it.
        asked = subprocess.run(
            ["make", "--dry-run", "--no-print-directory", *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr
        lines = re.sub(r"\\\n\s*", "", asked.stdout).splitlines()
    ours = [shlex.split(line) for line in lines if " -m pipelines " in line]
    for flags in ours:
        given = parser().parse_args(flags[flags.index("pipelines") + 1 :])
        # Settings are right, too, where they are not in a file of the reader's.
        if getattr(given, "set", None) and getattr(given, "params", "quickstart") == "quickstart":
            load("quickstart", given.set)


def steps_alone() -> list[tuple[str, str]]:
    """README → each command in it that runs a step by itself."""
    found = []
    for path in sorted([ROOT / "README.md", *ROOT.glob("components/*/README.md")]):
        joined = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        lines = re.findall(r"^.*python3? -m components ([a-z_]+ --.*)", joined, flags=re.MULTILINE)
        found += [(path.relative_to(ROOT).as_posix(), line) for line in lines]
    return found


def test_every_step_shows_how_to_run_it_alone() -> None:
    assert len({readme for readme, _ in steps_alone()}) == 8


@pytest.mark.parametrize(("readme", "line"), steps_alone())
def test_a_step_takes_the_flags_and_settings_of_its_readme(readme: str, line: str) -> None:
    name, *rest = shlex.split(line, comments=True)
    step = step_of(name, rest)
    given = runtime.parser(name, step).parse_args(rest)
    settings = runtime.Signature.of(step).settings.get("config")
    assert settings is not None or not given.set
    if settings is not None:
        decode(settings, override({}, given.set), name)
