"""Prompts as token ids, and whether all of them arrive: a text encoder reads so many tokens and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from components.errors import UserError
from components.progress import log
from components.train.model import BaseModel

#: Characters of what is left of a prompt that a message repeats.
_SHOWN = 40


def token_ids(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Token ids, int64 [texts, length], padded and cut to the tokenizer's length."""
    ids: torch.Tensor = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


def check(base: BaseModel, uses: Mapping[str, str]) -> None:
    """Refuse prompts that are one and the same to the text encoder; a log line names each that is cut.

    Args:
        uses: prompt → the class, or the setting, that it is the prompt of.

    Raises:
        UserError: naming each pair that cannot be told apart, and tokens that the text encoder does not know.
    """
    tokenizer, limit = base.tokenizer, base.tokenizer.model_max_length
    whole = tokenizer(list(uses), verbose=False).input_ids
    read = token_ids(tokenizer, list(uses))
    if read.max() >= base.text_encoder.config.vocab_size:
        raise UserError(
            f"the base model's tokenizer makes token {int(read.max())}, its text encoder knows "
            f"{base.text_encoder.config.vocab_size}; they are not of one model: copy the base model again"
        )
    first: dict[tuple[int, ...], str] = {}
    cut, problems = set(), []
    for text, tokens, ids in zip(uses, whole, read.tolist()):
        if len(tokens) > limit:
            cut.add(text)
            end = tokenizer.decode(ids[1:-1])[-_SHOWN:]
            log(f"train: the prompt {text!r} is {len(tokens)} tokens long, {limit} are read: it is cut after {end!r}")
        other = first.setdefault(tuple(ids), text)
        if other == text:
            continue
        both = f"{other!r} ({uses[other]}) and {text!r} ({uses[text]})"
        if cut & {other, text}:
            problems.append(
                f"prompts {both} are the same in the {limit} tokens that the base model reads, and would be learned as "
                "one; say what tells them apart sooner, or shorten them (crop.prompt, crop.prompts, train.class_prompt)"
            )
        elif uses[other] != uses[text]:
            problems.append(f"prompts {both} are the same tokens, so they would be learned as one; change one of them")
    if problems:
        raise UserError(*problems)
