"""CLIP's tokenizer, which every Stable Diffusion 1.x and 2.x has: from the package open_clip_torch, if it is there.

Its vocabulary (Radford et al. 2021, MIT licence) is 1.5 MB, and no part of this project.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

PACKAGE = "open_clip"

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_TOKENS = 49408
_START, _END = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> Path | None:
    """The package's file of merges; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    # Found, not imported: the package wants torchvision, its file does not.
    file = Path(found.submodule_search_locations[0]) / _FILE
    return file if file.is_file() else None


def write(folder: Path, merges: Path, pad: str = _END) -> None:
    """Write the tokenizer's files as transformers' CLIPTokenizer loads them.

    Args:
        merges: as `vocabulary` gives it.
        pad: the token that fills a text up; Stable Diffusion 2.x was trained with "!".
    """
    from transformers import CLIPTokenizer

    # Bytes that print stand for themselves; the others are moved above 255, in their order.
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    with gzip.open(merges, "rt", encoding="utf-8") as lines:
        next(lines)  # the version
        pairs = [line.split() for line, _ in zip(lines, range(_TOKENS - 2 * len(symbols) - 2))]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in pairs), _START, _END]
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merged = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8")
    merged.write_text("\n".join(["#version: 0.2", *map(" ".join, pairs)]) + "\n", encoding="utf-8")
    CLIPTokenizer(
        vocab=str(vocab), merges=str(merged), model_max_length=77, unk_token=_END, pad_token=pad
    ).save_pretrained(folder)
