"""Every `python -m pipelines …` in a README: shown in a block it parses, mentioned in passing its words are known."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from pipelines.__main__ import parser
from tests.conftest import ROOT

READMES = sorted(p for p in ROOT.rglob("README.md") if not {".venv", "runs", "node_modules"} & set(p.parts))
_SHOWN = re.compile(r"^    (?:\w+=\S+ )*(?:\S*/)?python3? -m pipelines +(\S.*)$", flags=re.MULTILINE)
_MENTIONED = re.compile(r"python3? -m\s+pipelines +([^`\n]*)")


def shown(path: Path) -> list[str]:
    """The commands in blocks, without remarks, that are followed by nothing else."""
    joined = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    return [re.sub(r"\s+# .*", "", words).strip() for words in _SHOWN.findall(joined)]


def mentioned(path: Path) -> list[str]:
    """Those in sentences and remarks, which may leave out what must be given."""
    joined = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    # A line break between two words of a sentence; blocks keep theirs.
    joined = re.sub(r"(?<=\S)\n(?=\S)", " ", _SHOWN.sub("", joined))
    return [re.sub(r"\s+# .*", "", words).strip() for words in _MENTIONED.findall(joined)]


def unknown(words: list[str]) -> str | None:
    """The first word that the command line does not have: a command, or a flag of it; None where all are known."""
    at: argparse.ArgumentParser = parser()
    for word in words:
        commands = next((a for a in at._actions if isinstance(a, argparse._SubParsersAction)), None)
        if word.startswith("-"):
            if word.partition("=")[0] not in at._option_string_actions:
                return word
        elif commands is not None:
            if word not in commands.choices:
                return word
            at = commands.choices[word]
    return None


def _cases(of: str) -> list[object]:
    found = {"shown": shown, "mentioned": mentioned}[of]
    return [
        pytest.param(words, id=f"{path.relative_to(ROOT).as_posix()}: {words}")
        for path in READMES
        for words in found(path)
    ]


def test_commands_are_found() -> None:
    by_name = {path.relative_to(ROOT).as_posix(): path for path in READMES}
    assert len(shown(by_name["README.md"])) > 5
    assert len(shown(by_name["k8s/README.md"])) > 8
    assert "models rollback" in mentioned(by_name["components/convert/README.md"])
    assert "dataset push" in mentioned(by_name["components/snapshot/README.md"])
    assert sum(len(mentioned(path)) for name, path in by_name.items() if name.startswith("components/")) >= 7


@pytest.mark.parametrize("words", _cases("shown"))
def test_a_command_that_is_shown_is_one(words: str) -> None:
    parser().parse_args(shlex.split(words))


@pytest.mark.parametrize("words", _cases("mentioned"))
def test_a_command_that_is_mentioned_has_words_that_there_are(words: str) -> None:
    assert unknown(shlex.split(words)) is None


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("models rollback", None),
        ("dataset push --store s3://bucket", None),
        ("submit --plan --profil gpu", "--profil"),
        ("model show", "model"),
        ("schedule stop boards", "stop"),
        ("gc --plan", "--plan"),
    ],
)
def test_a_word_that_is_none_is_found(words: str, wrong: str | None) -> None:
    assert unknown(words.split()) == wrong
