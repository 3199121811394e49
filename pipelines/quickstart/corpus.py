"""Captions of the drawn pictures, and the tokenizer made from the words of inspection.

The tokenizer follows CLIP's conventions: lower case, byte-level pairs, `</w>` at a word's end. Every string has an
encoding, since the 256 bytes are tokens of their own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

# Sentences to learn merges from: what users of inspection models write in prompts.
_PARTS = (
    "printed circuit board|circuit board|pcb|board|bare board|copper trace|trace|pad|via|solder mask",
    "silkscreen|ground plane|chip|integrated circuit|package|pin|lead|connector|resistor|capacitor",
    "screw|screw head|screw neck|thread|bolt|nut|washer|metal tile|magnetic tile|ceramic tile|tile",
    "metal nut|steel plate|brushed metal|cast metal|metal surface|sheet|casting|wood|leather|fabric",
    "carpet|glass|bottle|cable|capsule|pill|transistor|toothbrush|zipper|hazelnut|grid|wafer|weld",
    "gear",
)
_DEFECTS = (
    "open|open circuit|short|short circuit|mousebite|mouse bite|spur|copper|spurious copper|pin-hole",
    "pinhole|pin hole|missing hole|scratch|crack|dent|stain|blowhole|break|fray|uneven|chip|burr",
    "corrosion|rust|contamination|bent lead|hole|missing part|misalignment|solder bridge|cold joint",
    "void|pit|inclusion|bump|fold|tear|cut|discolouration|discoloration|squeeze|manipulated front",
    "thread side|thread top|scratch head|scratch neck|poke|print|broken|bent|colour|color|glue|defect",
    "defective|damage|flaw|anomaly|fault|good|normal|defect-free|faulty|rough|missing|foreign object",
    "misplaced",
)
_FRAMES = (
    "a photo of a {part}",
    "a photo of a {part} with a {defect}",
    "a photo of a {defect} on a {part}",
    "a close-up photo of a {part} with a {defect} defect",
    "a scan of a {part}, black copper on white",
    "a grey photo of a {part}, white copper on black",
    "an inspection image of a {defect} defect",
    "a picture of the surface of a {part} without a defect",
    "a macro photograph of an unknown sks {part}, {defect}",
    "#{part}@{defect}@defect#",
    "green blue red black white dark grey gray {part}",
    "a binary image of a {part} from above, in focus, sharp, high resolution, {defect}",
)

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 512  # at most; with the 512 byte symbols, start and end, a vocabulary of up to 1,026
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


def prompt_corpus() -> Iterator[str]:
    """Sentences of inspection vocabulary."""
    parts = [p for line in _PARTS for p in line.split("|")]
    defects = [d for line in _DEFECTS for d in line.split("|")]
    for part in parts:
        for defect in defects:
            for frame in _FRAMES:
                yield frame.format(part=part, defect=defect)


def caption_variants(rng: np.random.Generator, caption: str) -> str:
    """The caption, or one time in three a looser wording of it, so that prompts need not be exact."""
    chance = rng.random()
    if chance < 0.67:
        return caption
    if chance < 0.76:
        return caption.split(",")[0]
    if chance < 0.84:
        return caption.replace("a photo of", "a close-up photo of").replace("a scan of", "a close-up scan of")
    if chance < 0.92 and "printed circuit board" in caption:
        return "a photo of a printed circuit board"
    for opening in ("a photo of a ", "a scan of a ", "a photo of ", "a grey photo of a "):
        if caption.startswith(opening):
            return caption.removeprefix(opening)
    return caption


def learn_merges(sentences: Iterable[str], most: int) -> list[tuple[str, str]]:
    """Byte-pair merges of ASCII sentences, most frequent pair first, ties by spelling; at most `most`.

    The tokenizers library's own trainer breaks ties differently from run to run.
    """
    counts = Counter(word for sentence in sentences for word in _WORD.findall(sentence.lower()))
    words = {(*word[:-1], word[-1] + "</w>"): count for word, count in counts.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {_merge(symbols, best): count for symbols, count in words.items()}
    return merges


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def train_tokenizer(folder: Path) -> None:
    """Learn the merges and write the tokenizer's files, in the form that transformers' CLIPTokenizer loads."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    merges = learn_merges(prompt_corpus(), MERGES)
    symbols = alphabet + [symbol + "</w>" for symbol in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)
    made.save_pretrained(folder)
