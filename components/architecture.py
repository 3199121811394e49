"""What the configuration of a network may ask for, looked at before the network is built.

diffusers and transformers build what a ``config.json`` says: a million layers, for hours, where it says so. The limits
are several times what Stable Diffusion 1.x, 2.x and XL have. Not covered: whether the network can be built at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.documents import shown

#: Numbers of layers: of a block of a UNet or an autoencoder, of a transformer in one, of a text encoder.
MOST_LAYERS = {
    "layers_per_block": 8,
    "transformer_layers_per_block": 16,
    "reverse_transformer_layers_per_block": 16,
    "num_hidden_layers": 64,
}
#: Entries of a list, which are levels of a network.
MOST_LEVELS = 8
#: Any other number: channels, sides, words of a vocabulary.
LARGEST = 10_000_000


def excesses(config: Mapping[str, Any]) -> list[str]:
    """What a network's configuration asks for beyond the limits, as parts of a message; none where all is well."""
    found = []
    for key, value in config.items():
        if isinstance(value, list) and len(value) > MOST_LEVELS:
            found.append(f"{key} has {len(value):,} entries, at most {MOST_LEVELS} are built")
            continue
        most = MOST_LAYERS.get(key, LARGEST)
        beyond = [number for number in _numbers(value) if not -most <= number <= most]
        found += [f"{key} is {shown(number)}, at most {most:,} is built" for number in beyond[:1]]
    return found


def _numbers(value: object, depth: int = 0) -> Iterator[int | float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item, depth + 1)
