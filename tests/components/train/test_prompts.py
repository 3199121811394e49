"""Prompts longer than the text encoder reads, and prompts that it cannot tell apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from components.storage import Store
from components.train import model, prompts
from tests.components.train.actions import Train, call

pytestmark = pytest.mark.integration

#: Each letter is a token of the tiny tokenizer's, and 75 of them fit.
LONG = "a photo of a printed circuit board of line 3 under ring light, seen from above, with a defect that is "


def with_prompts(crops: Path, folder: Path, **texts: str) -> Path:
    """The crops with another prompt for each class."""
    shutil.copytree(crops, folder)
    file = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "text": texts[row["defect"]]}) + "\n" for row in rows))
    return folder


def test_classes_that_are_cut_to_the_same_tokens_are_refused(
    crops: Path, tiny_base: Path, place: Store, tmp_path: Path
) -> None:
    same = with_prompts(crops, tmp_path / "same", dark=f"{LONG}dark", light=f"{LONG}light")
    with pytest.raises(UserError, match=r"is dark' \(dark\) and '.*is light' \(light\) are the same in the 77 tokens"):
        call(same, tiny_base, place, tmp_path / "out")
    assert not [info for info in place.list() if "step-" in info.key]


def test_a_class_prompt_that_is_cut_to_a_classs_tokens_is_refused(
    crops: Path, tiny_base: Path, place: Store, tmp_path: Path
) -> None:
    long = with_prompts(crops, tmp_path / "long", dark=f"{LONG}dark", light="light")
    prior = {"with_prior_preservation": True, "class_prompt": f"{LONG}not there", "num_class_images": 1}
    with pytest.raises(UserError, match=r"\(dark\) and '.*not there' \(train.class_prompt\) are the same in the 77"):
        call(long, tiny_base, place, tmp_path / "out", **prior)
    assert not [info for info in place.list() if "class-images" in info.key]


def test_a_prompt_that_is_cut_and_still_its_own_is_named(
    crops: Path, tiny_base: Path, place: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = with_prompts(crops, tmp_path / "cut", dark=f"dark: {LONG}", light="light")
    prior = {"with_prior_preservation": True, "class_prompt": LONG, "num_class_images": 1}
    call(cut, tiny_base, place, tmp_path / "out", max_train_steps=1, checkpointing_steps=1, **prior)
    said = [line for line in capsys.readouterr().out.splitlines() if "are read: it is cut after" in line]
    assert ["'dark: a photo" in said[0], "'a photo" in said[1], len(said)] == [True, True, 2]
    assert "77 are read" in said[0]


def test_prompts_that_fit_are_not_spoken_of(run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run(max_train_steps=1, checkpointing_steps=1)
    assert "are read" not in capsys.readouterr().out


def test_prompts_that_differ_in_what_the_tokenizer_drops_are_refused_between_classes(tiny_base: Path) -> None:
    base = model.load(tiny_base)
    with pytest.raises(UserError, match=r"'a dent' \(dent\) and 'A  Dent' \(hole\) are the same tokens"):
        prompts.check(base, {"a dent": "dent", "A  Dent": "hole", "a hole": "hole"})
    prompts.check(base, {"a dent": "dent", "A  Dent": "dent", "a hole": "hole"})


def test_tokens_that_the_text_encoder_does_not_know_are_refused(tiny_base: Path) -> None:
    base = model.load(tiny_base)
    base.tokenizer.add_tokens(["<board>"])
    prompts.check(base, {"a board": "board"})
    with pytest.raises(UserError, match="not of one model"):
        prompts.check(base, {"a <board>": "board"})
